"""Ownership stays true inside vLLM's own scheduler: through hits, sharing, preemption, aborts, resets and evictions."""

import random

import pytest

from agentrt.identity import Identity


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_audit_finds_nothing(extended, prompt, seed, on_gpu):
    """Labelled and unlabelled requests that share, grow, are cut short, preempted and aborted leave nothing wrong."""
    rng = random.Random(seed)
    simulation = extended(40, on_gpu=on_gpu)
    live = []
    for operation in range(400):
        kind = rng.random()
        if kind < 0.5:
            agent, session = rng.randrange(3), rng.randrange(5)
            tokens = prompt(64, agent) + prompt(rng.randint(10, 500), 100 + session)
            label = Identity(session=f"s{session}", agent=f"a{agent}") if rng.random() < 0.8 else None
            live.append(simulation.add(tokens, label, max_tokens=rng.randint(1, 120)))
        elif kind < 0.6 and live:
            simulation.abort(live.pop(rng.randrange(len(live))))
        elif kind < 0.63:
            simulation.pool.evict_blocks({rng.randrange(1, 41) for _ in range(4)})
        elif kind < 0.64:
            simulation.run()
            assert simulation.scheduler.reset_prefix_cache()
        elif kind < 0.7:
            signal = {"session": f"s{rng.randrange(5)}", "tenant": "default"}
            action = {"action_id": "1", "action_type": "agentrt.signal.run_ended", "payload": signal}
            simulation.call("execute", message_id=f"m{operation}", actions=[action])
        for _ in range(rng.randint(0, 6)):
            if simulation.scheduler.has_requests():
                simulation.step()
        audit = simulation.call("audit")
        assert audit == {"blocks": 40, "findings": []}
    assert simulation.preemptions > 0
    assert simulation.call("status")["faults"] == 0


def test_a_disturbed_queue_is_found(extended, prompt):
    """A block that somebody took from the queue behind our back is named."""
    simulation = extended(40)
    simulation.serve(prompt(200, 1), Identity(session="s", agent="a"))
    taken = simulation.pool.free_block_queue.popleft()
    (finding, *_) = simulation.call("audit")["findings"]
    assert finding == f"block {taken.block_id} is free and not queued"

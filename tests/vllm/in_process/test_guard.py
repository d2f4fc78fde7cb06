"""The guard inside vLLM's own scheduler."""

import random

import pytest

from agentrt.identity import Identity


def chat(simulation, rng, *, calls, labelled):
    """Conversations that grow and are left, several at once, from a fixed seed."""
    chats = [[rng.randrange(10, 1000) for _ in range(100)] for _ in range(8)]
    for number in range(calls):
        which = rng.randrange(len(chats))
        chats[which] += [rng.randrange(10, 1000) for _ in range(rng.randint(10, 120))]
        if len(chats[which]) > 1200:
            chats[which] = chats[which][:96]
        label = Identity(session=f"{which}", agent="a") if labelled else None
        simulation.add(chats[which], label, max_tokens=rng.randint(1, 80))
        for _ in range(rng.randint(0, 8)):
            simulation.step()
        if number % 50 == 0:
            simulation.run()
    simulation.run()


@pytest.mark.parametrize("on_gpu", [False, True])
def test_without_identities_the_cache_is_as_good_as_its_shadow(extended, on_gpu):
    """Stock LRU and the guard's shadow of it find the same share of blocks, requests being side by side."""
    simulation = extended(90, on_gpu=on_gpu)
    chat(simulation, random.Random(1), calls=600, labelled=False)
    guard = simulation.call("status")["guard"]
    assert guard["lookups"] > 4000
    assert guard["hit_rate"] > 0.3
    assert abs(guard["hit_rate"] - guard["lru_hit_rate"]) < 0.01
    assert guard["mode"] == "order"


def test_a_reset_empties_the_shadow_too(extended, prompt):
    """After `reset_prefix_cache` neither vLLM nor the shadow finds anything."""
    simulation = extended(64)
    for _ in range(2):
        simulation.serve(prompt(200, 1), Identity(session="s", agent="a"))
        assert simulation.scheduler.reset_prefix_cache()
    guard = simulation.call("status")["guard"]
    assert (guard["hit_rate"], guard["lru_hit_rate"]) == (0, 0)


def test_requests_that_may_not_read_the_cache_do_not_count(extended, prompt, vllm):
    """A request told to skip the cache would look like a loss."""
    simulation = extended(64)
    simulation.serve(prompt(200, 1))
    before = simulation.call("status")["guard"]["lookups"]
    simulation.add(prompt(200, 1))
    next(iter(simulation.scheduler.requests.values())).skip_reading_prefix_cache = True
    simulation.run()
    assert simulation.call("status")["guard"]["lookups"] == before

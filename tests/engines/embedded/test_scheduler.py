"""Steps are batched within their limits, everybody is served in turn, and preemption costs only time."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrt.engines.embedded.cost import CostModel, StepWork
from agentrt.identity import Identity


def test_a_long_prompt_is_computed_in_chunks(parts):
    """A prompt beyond the budget takes several steps, and the first token comes with the last of them."""
    p = parts(max_batched_tokens=32)
    request = p.add(100, reply=2)
    steps = p.run()
    assert [s.work.prefill_tokens for s in steps] == [32, 32, 32, 4, 0]
    assert [len(s.produced) for s in steps] == [0, 0, 0, 1, 1]
    assert [s.work.decode_seqs for s in steps] == [0, 0, 0, 0, 1]
    assert request.tokens == request.prompt + request.reply


def test_running_requests_are_served_before_waiting_ones(parts):
    """Decoding goes on while a new prompt is computed with what is left of the budget."""
    p = parts(max_batched_tokens=16)
    p.add(8, reply=5)
    p.scheduler.step()
    p.add(40)
    work = p.scheduler.step().work
    assert (work.decode_seqs, work.prefill_tokens) == (1, 15)


def test_first_come_first_served_unless_priority_says_otherwise(parts):
    """Lower priority numbers are admitted first, equals in order of arrival."""
    p = parts(max_num_seqs=1)
    names = {p.add(4, priority=priority): name for name, priority in (("a", 0), ("b", 0), ("c", 5), ("d", -1))}
    finished = [names[request] for step in p.run() for request in step.finished]
    assert finished == ["d", "a", "b", "c"]


def test_no_more_than_max_num_seqs_run(parts):
    """Slots bound the batch."""
    p = parts(max_num_seqs=3)
    for _ in range(10):
        p.add(4, reply=3)
    while p.scheduler.has_work:
        p.scheduler.step()
        assert len(p.scheduler.running) <= 3


def test_a_prompt_is_admitted_only_when_all_of_it_fits(parts):
    """A chunked prompt does not begin what it could not finish, though budget and some blocks are left."""
    p = parts(num_blocks=8, max_batched_tokens=16)
    p.add(16, reply=8)
    p.scheduler.step()
    waiting = p.add(28)
    assert p.scheduler.step().work.prefill_tokens == 0
    assert p.scheduler.waiting == [waiting]
    p.run()
    assert waiting.finished


def test_the_last_token_of_a_prompt_is_always_computed(parts):
    """A repeated prompt of whole blocks computes its last block again, since that is what gives the first token."""
    p = parts()
    prompt = list(range(12))
    p.add(prompt)
    p.run()
    again = p.add(prompt)
    [step] = p.run()
    assert (again.num_cached_tokens, step.work.prefill_tokens) == (8, 4)


def test_equal_prompts_share_blocks_within_a_step(parts):
    """A block can be hit from the moment it is scheduled, as in vLLM."""
    p = parts()
    prompt = list(range(18))
    first, second = p.add(prompt), p.add(prompt)
    p.run()
    assert (first.num_cached_tokens, second.num_cached_tokens) == (0, 16)


def test_a_reply_is_found_by_the_next_turn(parts):
    """Tokens that were generated are cached like prompt tokens, all but the last."""
    p = parts()
    first = p.add(8, reply=9)
    p.run()
    second = p.add([*first.tokens, 5, 5, 5, 5])
    p.run()
    assert second.num_cached_tokens == 16


def test_preemption_costs_only_time(parts):
    """When blocks run out the last request is computed again later, mostly from the cache, to the same tokens."""
    p = parts(num_blocks=10)
    first, last = p.add(16, reply=20), p.add(16, reply=20)
    steps = p.run()
    preempted = [request for step in steps for request in step.preempted]
    assert preempted
    assert set(preempted) == {last}
    assert [r.tokens for r in (first, last)] == [r.prompt + r.reply for r in (first, last)]
    assert last.num_cached_tokens == 0, "reported as of the first admission"
    assert p.scheduler.counters["preemptions"] == len(preempted)
    assert p.pool.num_free_blocks == 10


def test_the_least_urgent_is_preempted(parts):
    """Of running requests the one with the highest priority number gives way, whoever came first."""
    p = parts(num_blocks=10)
    first, last = p.add(16, reply=20, priority=1), p.add(16, reply=20, priority=0)
    preempted = {request for step in p.run() for request in step.preempted}
    assert preempted == {first}
    assert last.finished


def test_what_can_never_fit_is_refused(parts):
    """A request longer than the pool is refused at once, rather than waiting for ever."""
    p = parts(num_blocks=4)
    with pytest.raises(ValueError, match="5 blocks needed, the pool has 4"):
        p.add(16, reply=1)
    for empty in ({"prompt": 0}, {"prompt": 3, "reply": 0}):
        with pytest.raises(ValueError):
            p.add(**empty)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_an_aborted_request_leaves_nothing_behind(parts, steps):
    """Waiting, running or finished: afterwards all blocks are free and nothing is left to do."""
    p = parts()
    request = p.add(8, reply=3)
    for _ in range(steps):
        p.scheduler.step()
    for _ in range(2):
        p.scheduler.abort(request)
    assert not p.scheduler.has_work
    assert p.pool.num_free_blocks == 64
    assert p.scheduler.counters["aborted"] == (steps < 3)


def test_the_cost_of_a_step_adds_up():
    """Seconds are the sum over the work's terms."""
    cost = CostModel(step_s=1, prefill_token_s=10, decode_seq_s=100, prefill_pair_s=1000, decode_context_s=10_000)
    work = StepWork(prefill_tokens=2, decode_seqs=3, prefill_pairs=4, decode_context_tokens=5)
    assert cost.seconds(work) == 1 + 20 + 300 + 4000 + 50_000
    assert cost.seconds(StepWork()) == 1


def test_attention_is_counted_by_what_it_reads(parts):
    """A chunk attends to all before it and to itself; a decoded token reads its whole context."""
    p = parts(max_batched_tokens=8)
    p.add(12, reply=2)
    works = [step.work for step in p.run()]
    assert [w.prefill_pairs for w in works] == [36, 4 * 8 + 10, 0]
    assert [w.decode_context_tokens for w in works] == [0, 0, 13]


CALLERS = [None, *(Identity(session=s, agent=a) for s in "xyz" for a in "pq")]
JOB = st.tuples(
    st.lists(st.integers(0, 1), min_size=1, max_size=40),
    st.integers(1, 12),
    st.sampled_from(CALLERS),
    st.integers(-1, 1),
)


@given(
    st.lists(JOB | st.just("step") | st.integers(0, 5), min_size=15, max_size=50),
    st.integers(13, 20),
    st.integers(3, 20),
)
def test_everybody_is_served_and_every_block_comes_back(parts, script, num_blocks, budget):
    """Whatever arrives, is aborted or preempted: budgets hold, requests finish, blocks are free exactly once."""
    p = parts(num_blocks=num_blocks, max_batched_tokens=budget, max_num_seqs=4)
    live = []
    for item in script:
        if item == "step":
            p.clock.now_s += 0.4
            work = p.scheduler.step().work
            assert work.prefill_tokens + work.decode_seqs <= budget
            p.order.tick()
        elif isinstance(item, int):
            if item < len(live):
                p.scheduler.abort(live.pop(item))
        else:
            prompt, reply, identity, priority = item
            live.append(p.add(prompt, reply=reply, identity=identity, priority=priority))
        in_use = {b.block_id for request in p.scheduler.running for b in request.blocks}
        free = [b.block_id for b in p.order.queue.get_all_free_blocks()]
        assert len(free) == len(set(free))
        assert set(free) == set(range(num_blocks)) - in_use
    p.run()
    assert all(request.tokens == request.prompt + request.reply for request in live)
    assert p.pool.num_free_blocks == num_blocks
    assert p.order.queue.faults == 0
    assert p.order.queue.ordered


def test_prompts_are_arrays_of_tokens(parts):
    """The scheduler never changes the prompt it was given."""
    p = parts()
    request = p.add(9, reply=4)
    before = array("I", request.prompt)
    p.run()
    assert request.prompt == before

"""The loop gives every step its time, and no fault of a step ends it."""

import asyncio
from array import array

import pytest

from agentrt.engines.embedded.cost import CostModel
from agentrt.engines.embedded.loop import EngineLoop
from agentrt.errors import EngineError
from agentrt.identity import AgentKey, Identity


@pytest.fixture
def run(parts):
    """Run a scenario `scenario(loop, parts)` beside the loop, on a virtual clock."""

    def run(scenario, *, time_scale=1.0, cost=None, **limits):
        async def main():
            p = parts(**limits)
            loop = EngineLoop(
                p.pool,
                p.scheduler,
                cost=cost or CostModel(),
                time_scale=time_scale,
                clock=p.clock,
                sleep=lambda seconds: asyncio.gather(p.clock.sleep(seconds), asyncio.sleep(0)),
            )
            running = asyncio.create_task(loop.run())
            try:
                return await asyncio.wait_for(scenario(loop, p), 10)
            finally:
                running.cancel()

        return asyncio.run(main())

    return run


@pytest.mark.parametrize("time_scale", [1.0, 0.1])
def test_a_request_takes_the_time_of_its_steps(run, time_scale):
    """From arrival to the last token passes what the cost model says, stretched by the scale."""

    async def scenario(loop, p):
        await loop.submit(p.request(100, reply=11)).all()
        return p.clock.now_s

    cost = CostModel(step_s=1, prefill_token_s=0.01, decode_seq_s=0, prefill_pair_s=0, decode_context_s=0)
    assert run(scenario, time_scale=time_scale, cost=cost, max_batched_tokens=50) == pytest.approx(
        time_scale * (2 * 1.5 + 10)
    )


def test_short_steps_are_made_up_for(run):
    """Steps too short to sleep for run in a row, and their time passes all the same."""

    async def scenario(loop, p):
        await loop.submit(p.request(4, reply=100)).all()
        return p.clock.now_s

    cost = CostModel(step_s=1e-4, prefill_token_s=0, decode_seq_s=0, prefill_pair_s=0, decode_context_s=0)
    assert run(scenario, cost=cost) == pytest.approx(0.01, abs=1.1e-3)


def test_tokens_are_seen_as_they_come(run):
    """A reader sees the count grow, may fall behind, and sees the end."""

    async def scenario(loop, p):
        generation = loop.submit(p.request(4, reply=5))
        seen = []
        while not generation.finished or seen[-1] < 5:
            seen.append(await generation.more())
        return seen

    seen = run(scenario)
    assert seen == sorted(set(seen))
    assert seen[-1] == 5


def test_a_prefetch_gives_way_to_the_real_request(run):
    """A call of the agent cancels the warm-up of its anchor, and finds what was computed by then."""

    async def scenario(loop, p):
        chain = array("I", range(40))
        agent = AgentKey("default", "default", "coder")
        for _ in range(2):
            loop.prefetch(agent, chain, None)  # one at a time per agent
        assert loop.load == (0, 1)
        while p.scheduler.counters["steps"] < 1:  # noqa: ASYNC110 - the loop under test takes its turn
            await asyncio.sleep(0)
        caller = Identity(session="s", agent="coder")
        generation = loop.submit(p.request([*range(40), 99], identity=caller))
        await generation.all()
        assert p.scheduler.counters["aborted"] == 1
        return generation.request.num_cached_tokens

    assert run(scenario, max_batched_tokens=16) >= 16


def test_a_prefetch_leaves_other_agents_alone(run):
    """A call of another agent neither waits for a warm-up nor ends it."""

    async def scenario(loop, p):
        loop.prefetch(AgentKey("default", "default", "coder"), array("I", range(40)), None)
        other = loop.submit(p.request(4, identity=Identity(session="s", agent="tester")))
        await other.all()
        while p.scheduler.has_work:  # noqa: ASYNC110 - the loop under test takes its turn
            await asyncio.sleep(0)
        return p.scheduler.counters

    counters = run(scenario, max_batched_tokens=16)
    assert (counters["finished"], counters["aborted"]) == (2, 0)


def test_a_step_that_fails_fails_its_requests_only(run, caplog):
    """Requests in flight get an error, later ones an answer."""

    async def scenario(loop, p):
        step, p.scheduler.step = p.scheduler.step, lambda: 1 / 0
        with pytest.raises(EngineError, match="the engine failed"):
            await loop.submit(p.request(4)).all()
        p.scheduler.step = step
        return await loop.submit(p.request(4, reply=3)).all()

    assert run(scenario) == 3
    assert "ZeroDivisionError" in caplog.text


def test_a_cost_model_that_fails_fails_its_requests_only(run):
    """A cost model of the user's may raise; the loop outlives it, and nobody waits for ever."""

    class Broken(CostModel):
        def seconds(self, work):
            raise ArithmeticError

    async def scenario(loop, p):
        for _ in range(2):
            with pytest.raises(EngineError, match="the engine failed"):
                await loop.submit(p.request(4, reply=3)).all()
        return p.pool.num_free_blocks

    assert run(scenario, cost=Broken()) == 64


def test_stopping_fails_what_is_in_flight(run):
    """Nobody is left waiting for an engine that closes."""

    async def scenario(loop, p):
        generation = loop.submit(p.request(4, reply=50))
        loop.stop()
        with pytest.raises(EngineError, match="closing"):
            await generation.more()
        with pytest.raises(EngineError, match="closing"):
            loop.submit(p.request(4))
        return loop.load

    assert run(scenario) == (0, 0)

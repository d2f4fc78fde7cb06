"""The API server's end, on a real Starlette app: what it answers when the engine's end is missing, and prefetches."""

import asyncio
import logging
from contextlib import asynccontextmanager
from types import SimpleNamespace

import httpx
import pytest
from starlette.applications import Starlette

from agentrt.config import Settings

PREFETCH = {"token_ids": [1, 2, 3], "cache_salt": "salt", "agent": ["default", "flow", "planner"]}


class EngineClient:
    """vLLM's `AsyncLLM` as far as the plugin uses it. `side` answers as EngineCore would, or raises."""

    def __init__(self, side=None, *, errored=False, ranks=1):
        self.errored = errored
        self.engine_core = self
        self.vllm_config = SimpleNamespace(
            parallel_config=SimpleNamespace(data_parallel_size=ranks),
            cache_config=SimpleNamespace(block_size=32, num_gpu_blocks=65),
        )
        self._side = side
        self._ranks = ranks
        self.generated = []
        self.aborted = 0
        self.began, self.may_finish = asyncio.Event(), asyncio.Event()

    async def call_utility_all_async(self, method, op, payload):
        assert method == "agentrt_call"
        if self._side is None:
            raise Exception("Call to agentrt_call method failed: no attribute 'agentrt_call'")
        return [self._side(op, payload)] * self._ranks

    async def generate(self, prompt, params, request_id, *, priority):
        self.generated.append((prompt, params, request_id, priority))
        self.began.set()
        try:
            await self.may_finish.wait()
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        if not prompt["prompt_token_ids"]:
            raise ValueError("empty prompt")
        yield None


@asynccontextmanager
async def served(client, vllm):
    """The plugin's routes on an app with vLLM's life cycle around them; yields an HTTP client."""
    app = Starlette()
    endpoint = vllm.Endpoint(Settings())
    endpoint.attach_router(app)
    await endpoint.init_state(client, app.state, None)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://vllm") as http,
    ):
        yield http


def engine_side(extended):
    return extended().scheduler.agentrt.call


def prefetching(**fields):
    """An engine side that accepts every prefetch and answers PREFETCH with these fields changed."""

    def call(op, payload):
        if op == "status":
            names = (
                "running",
                "waiting",
                "total_blocks",
                "free_blocks",
                "cached_blocks",
                "groups",
                "sessions",
                "faults",
            )
            return {"order": "agentrt", **dict.fromkeys(names, 0)}
        accepted = {"outcome": "accepted", "reason": "", "prefetch": {**PREFETCH, **fields}}
        return {"outcomes": [{"action_id": action["action_id"], **accepted} for action in payload["actions"]]}

    return call


def test_without_the_engines_end_it_says_stock_lru(vllm):
    """When the plugin failed in the engine's process, capabilities say `lru` and why; the server answers."""

    async def check():
        async with served(EngineClient(), vllm) as http:
            answer = (await http.get("/v1/agentrt/capabilities")).json()
            assert (answer["order"], answer["num_blocks"], answer["actions"]) == ("lru", 64, [])
            assert "agentrt_call" in answer["degraded"][0]
            assert (await http.get("/v1/agentrt/status")).status_code == 503

    asyncio.run(check())


def test_a_dead_engine_is_unavailable(vllm):
    """When vLLM's engine died there is nothing to say about it: 503, and no word of its internals."""

    async def check():
        async with served(EngineClient(errored=True), vllm) as http:
            for route in ("capabilities", "status", "residency"):
                answer = await http.get(f"/v1/agentrt/{route}")
                assert answer.status_code == 503
                assert "agentrt_call" not in answer.text

    asyncio.run(check())


def test_before_the_engine_is_ready_it_is_unavailable(vllm):
    """Routes exist before vLLM hands over its engine client."""

    async def check():
        async with served(None, vllm) as http:
            assert (await http.get("/v1/agentrt/status")).status_code == 503

    asyncio.run(check())


@pytest.mark.parametrize(("ranks", "degraded"), [(1, 0), (4, 1)])
def test_several_data_parallel_engines_are_told(vllm, extended, ranks, degraded):
    """With data parallelism every engine gets the actions, but status is the first one's: capabilities say so."""

    async def check():
        async with served(EngineClient(engine_side(extended), ranks=ranks), vllm) as http:
            answer = (await http.get("/v1/agentrt/capabilities")).json()
            assert answer["order"] == "agentrt"
            assert len(answer["degraded"]) == degraded

    asyncio.run(check())


def test_a_prefetch_runs_beside_the_answer_once_per_agent(vllm):
    """It is answered at once and runs as a labelled request of one token, salted, at the lowest priority."""

    async def check():
        client = EngineClient(prefetching())
        async with served(client, vllm) as http:
            for _ in range(3):
                assert (await act(http))["outcome"] == "accepted"
            await asyncio.wait_for(client.began.wait(), 10)
            [(prompt, params, request_id, priority)] = client.generated
            assert prompt == {"prompt_token_ids": [1, 2, 3], "cache_salt": "salt"}
            assert params.max_tokens == 1
            assert '"agent":"planner"' in params.extra_args["agentrt"]
            assert request_id.startswith("agentrt-prefetch-")
            assert priority > 0
            client.may_finish.set()
            await asyncio.wait(running_prefetches(), timeout=10)
            counters = (await http.get("/v1/agentrt/status")).json()["counters"]
            assert counters == {"prefetches": 1, "prefetched_tokens": 3, "prefetches_failed": 0}

    asyncio.run(check())


def test_failed_prefetches_are_counted_and_logged_once(vllm, caplog):
    """A prefetch that fails costs nothing but itself."""

    async def check():
        client = EngineClient(prefetching(token_ids=[]))
        client.may_finish.set()
        async with served(client, vllm) as http:
            for _ in range(3):
                await act(http)
                await asyncio.wait(running_prefetches(), timeout=10)
            counters = (await http.get("/v1/agentrt/status")).json()["counters"]
            assert counters == {"prefetches": 3, "prefetched_tokens": 0, "prefetches_failed": 3}

    with caplog.at_level(logging.ERROR, "agentrt"):
        asyncio.run(check())
    assert len([record for record in caplog.records if "prefetch failed" in record.getMessage()]) == 1


def test_shutdown_cancels_running_prefetches(vllm):
    """When the server shuts down, running prefetches are aborted and waited for."""

    async def check():
        client = EngineClient(prefetching())
        async with served(client, vllm) as http:
            await act(http)
            await asyncio.wait_for(client.began.wait(), 10)
        assert client.aborted == 1
        assert not running_prefetches()

    asyncio.run(check())


async def act(http):
    """Send one prefetch action; returns its outcome."""
    action = {"action_id": "a", "action_type": "agentrt.kv.prefetch", "payload": {"agent": "planner"}}
    body = {"protocol_version": "1", "message_id": "m", "actions": [action]}
    answer = await http.post("/v1/agentrt/actions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["outcomes"][0]


def running_prefetches():
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("agentrt-prefetch-")]

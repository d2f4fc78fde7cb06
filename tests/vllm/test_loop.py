"""The whole loop on a real vLLM: LangGraph sessions, stock and with agentrt in turn, and a control plane that fails."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from agentrt_langgraph import instrument
from rich.console import Console
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from agentrt import Runtime, Settings
from agentrt.cli.passes import Demo, DemoOptions, PassOutcome
from agentrt.cli.summary import compare
from agentrt.engines.vllm import VLLMEngine
from agentrt.evaluation.examples import load_example

OPTIONS = {"sessions": 14, "concurrency": 7, "seed": 1, "blocks": 0, "time_scale": 1.0, "max_tokens": 32}
PASSES = ("stock", "agentrt", "stock", "agentrt")


@pytest.fixture(scope="module")
def outcomes(fleet, loop_configuration) -> tuple[Demo, list[PassOutcome]]:
    """The example's conversations on one server: A B A B."""
    server = fleet.get(loop_configuration)
    demo = Demo.prepare(DemoOptions(base_url=server.base_url, model=server.model, **OPTIONS))
    demo.warm_up()
    return demo, [demo.run_pass(mode, number, lambda _: None) for number, mode in enumerate(PASSES)]


@pytest.fixture(scope="module")
def before_and_after(fleet, loop_configuration, outcomes):
    """Not a measurement: the server's status after all passes."""
    return fleet.get(loop_configuration).control("status")


def test_every_conversation_completes_in_both_modes(outcomes):
    """No call and no conversation fails, with agentrt or without."""
    for outcome in outcomes[1]:
        assert [s.error for s in outcome.load.sessions if s.error] == []
        assert len(outcome.load.sessions) == OPTIONS["sessions"]
        assert all(call.prompt_tokens for call in outcome.load.calls)


def test_identity_arrives_with_every_request(outcomes, before_and_after):
    """The engine counted one labelled call for each call made with agentrt, and none of the stock passes."""
    labelled = sum(len(outcome.load.calls) for outcome in outcomes[1] if outcome.mode == "agentrt")
    assert before_and_after["counters"]["labelled_calls"] == labelled
    assert before_and_after["order"] == "agentrt"
    assert before_and_after["faults"] == 0


def test_hit_rate_is_higher_than_stock_under_pressure(outcomes, capsys):
    """On the same server and load more prompt tokens come from the cache with agentrt; the table is printed."""
    comparison = compare(*outcomes)
    with capsys.disabled():
        console = Console(width=100)
        console.print(comparison.table())
        for line in comparison.why:
            console.print(line, highlight=False)
    assert comparison.settings["pool_share"] < 1, "no pressure, no test"
    assert comparison.agentrt.hit_rate > comparison.stock.hit_rate
    assert comparison.agentrt.prefill_tokens < comparison.stock.prefill_tokens


@contextmanager
def proxy_to(base_url: str, control: str) -> Iterator[str]:
    """A server in front of vLLM that passes requests on, and whose control plane is `refused`, `slow` or `garbage`."""
    released = asyncio.Event()

    async def answer(request: Request) -> Response:
        if request.url.path.startswith("/v1/agentrt"):
            if control == "slow":
                async with asyncio.timeout(10):
                    await released.wait()
            return Response("<html>not json</html>") if control == "garbage" else Response(status_code=401)
        client = httpx.AsyncClient(timeout=60)
        headers = {k: v for k, v in request.headers.items() if k not in {"host", "content-length"}}
        upstream = client.build_request(
            request.method, base_url + request.url.path, headers=headers, content=await request.body()
        )
        reply = await client.send(upstream, stream=True)

        async def body() -> AsyncIterator[bytes]:
            async for chunk in reply.aiter_raw():
                yield chunk
            await client.aclose()

        kept = {k: v for k, v in reply.headers.items() if k in {"content-type", "content-encoding"}}
        return StreamingResponse(body(), status_code=reply.status_code, headers=kept)

    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.servers[0].get_loop().call_soon_threadsafe(released.set)
        server.should_exit = True
        thread.join(10)


@pytest.mark.parametrize("control", ["refused", "slow", "garbage"])
def test_the_graph_finishes_whatever_the_control_plane_does(fleet, loop_configuration, control):
    """With a control plane that refuses, holds for ten seconds or answers garbage, the user's graph runs to its end."""
    server = fleet.get(loop_configuration)
    example = load_example("software_team")
    with proxy_to(server.base_url, control) as url:
        engine = VLLMEngine(url, timeout_s=0.5)
        with Runtime(engine, settings=Settings(timeout_s=0.5)) as runtime:
            llm = example.chat_model(
                base_url=f"{url}/v1", model=server.model, api_key="none", temperature=0, max_tokens=16, max_retries=0
            )
            graph = instrument(example.build_graph(llm), runtime)
            state = graph.invoke({"task": example.TASKS[0]}, {"configurable": {"thread_id": f"control-{control}"}})
            assert state["messages"][-1].name == "documenter"
            runtime.flush()
            assert runtime.stats()["engine"]["last_error"]
            assert {r.outcome.status for r in runtime.rulings if r.outcome} == {"undelivered"}
        engine.close()

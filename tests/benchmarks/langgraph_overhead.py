"""What observing a LangGraph run costs, in microseconds of CPU: per empty node, and per node with one LLM call.

    python tests/benchmarks/langgraph_overhead.py [--json] [--rounds N]

Each row compares runs of one graph in turn, round by round, so that a noisy machine disturbs all variants
alike: bare, with a handler that does nothing, and instrumented. The figure is the median over rounds of the
difference to the bare run of the same round; IQR is its spread. CPU time, because nothing here waits, and
other processes of the machine would show up in wall time. No network: a fake chat model, and ChatOpenAI
on a mock transport, where labelling the request is included.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

os.environ["LANGSMITH_TRACING"] = "false"

import openai
from agentrt_langgraph import instrument
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListChatModel
from langchain_openai import ChatOpenAI
from langgraph.graph import START, StateGraph

from agentrt.config import Settings
from agentrt.gates import ToolGates
from agentrt.identity import Identity
from agentrt.plan import RequestPlan

NODES = 50
URL = "http://engine.invalid/v1"
NODE_LIMIT_US = 25.0
CALL_LIMIT_US = 110.0


class State(TypedDict, total=False):
    n: int


class Idle(BaseCallbackHandler):
    """The price of any handler at all."""

    run_inline = True


class Sink:
    """A runtime that takes events and forgets them."""

    settings = Settings()
    tool_gates = ToolGates()
    clock = staticmethod(time.monotonic)

    def emit(self, event: object) -> None:
        """Forget it."""

    def plan(self, identity: Identity) -> RequestPlan:
        """Some advice."""
        return RequestPlan(reuse_p=0.5, reuse_s=1.0)

    def carries(self, url: str) -> bool:
        """Only the mock engine."""
        return url.startswith(URL)

    def fault(self, where: str, error: BaseException) -> None:
        """A fault makes the measurement worthless."""
        raise SystemExit(f"fault in {where}: {error!r}")


@dataclass
class Row:
    """One measurement, per node."""

    case: str
    bare_us: float
    idle_handler_us: float
    agentrt_us: float
    iqr_us: float
    ratio: float
    """agentrt's cost as a multiple of the do-nothing handler's."""
    limit_us: float

    @property
    def ok(self) -> bool:
        return self.agentrt_us <= self.limit_us


def build(node: Callable[..., Any]) -> Any:
    """A line of nodes that all run the same function."""
    graph = StateGraph(State)
    before = START
    for number in range(NODES):
        name = f"n{number}"
        graph.add_node(name, node)
        graph.add_edge(before, name)
        before = name
    return graph.compile()


def measure(case: str, node: Callable[..., Any], limit_us: float, rounds: int) -> Row:
    """Time the three variants in turn."""
    is_async = asyncio.iscoroutinefunction(node)
    loop = asyncio.new_event_loop()
    bare = build(node)
    variants = {
        "bare": bare,
        "idle": bare.with_config(callbacks=[Idle()]),
        "agentrt": instrument(bare, Sink()),
    }

    def once(graph: Any) -> float:
        began = time.process_time()
        if is_async:
            loop.run_until_complete(graph.ainvoke({"n": 0}))
        else:
            graph.invoke({"n": 0})
        return (time.process_time() - began) / NODES * 1e6

    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(3):
        for graph in variants.values():
            once(graph)
    gc.collect()
    gc.disable()  # a collection would hit one variant of a round and not the others
    try:
        for number in range(rounds):
            order = list(variants)
            for name in order[number % 3 :] + order[: number % 3]:
                times[name].append(once(variants[name]))
            if number % 10 == 9:
                gc.collect()
    finally:
        gc.enable()
        loop.close()
    added = [with_us - bare_us for with_us, bare_us in zip(times["agentrt"], times["bare"], strict=True)]
    idle = statistics.median(a - b for a, b in zip(times["idle"], times["bare"], strict=True))
    quartiles = statistics.quantiles(added, n=4)
    cost = statistics.median(added)
    return Row(
        case=case,
        bare_us=round(statistics.median(times["bare"]), 1),
        idle_handler_us=round(idle, 1),
        agentrt_us=round(cost, 1),
        iqr_us=round(quartiles[2] - quartiles[0], 1),
        ratio=round(cost / max(idle, 0.1), 2),
        limit_us=limit_us,
    )


def mock_openai() -> ChatOpenAI:
    """ChatOpenAI answered in process."""
    http = sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]
    message = {"role": "assistant", "content": "x"}
    answer = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
    transport = http.MockTransport(lambda _: http.Response(200, json=answer))
    return ChatOpenAI(
        model="m",
        base_url=URL,
        api_key="x",
        http_client=http.Client(transport=transport),
        http_async_client=http.AsyncClient(transport=transport),
        max_retries=0,
    )


def cases(rounds: int) -> list[Row]:
    """Every measurement."""
    fake = FakeListChatModel(responses=["x"])
    client = mock_openai()

    def empty(_: State) -> State:
        return {"n": 1}

    async def aempty(_: State) -> State:
        return {"n": 1}

    def call(_: State) -> State:
        fake.invoke("h")
        return {"n": 1}

    async def acall(_: State) -> State:
        await fake.ainvoke("h")
        return {"n": 1}

    def request(_: State) -> State:
        client.invoke("h")
        return {"n": 1}

    async def arequest(_: State) -> State:
        await client.ainvoke("h")
        return {"n": 1}

    return [
        measure("empty node, sync", empty, NODE_LIMIT_US, rounds),
        measure("empty node, async", aempty, NODE_LIMIT_US, rounds),
        measure("node + LLM call, sync", call, CALL_LIMIT_US, rounds),
        measure("node + LLM call, async", acall, CALL_LIMIT_US, rounds),
        measure("node + ChatOpenAI request, sync", request, CALL_LIMIT_US, rounds),
        measure("node + ChatOpenAI request, async", arequest, CALL_LIMIT_US, rounds),
    ]


def main() -> int:
    """Print the table; exit 1 when a limit does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--rounds", type=int, default=60, help="runs of each variant (default 60)")
    options = parser.parse_args()
    rows = cases(options.rounds)
    if options.json:
        print(json.dumps([asdict(row) | {"ok": row.ok} for row in rows], indent=2))
    else:
        print(f"{'per node, us':34} {'bare':>8} {'idle':>8} {'agentrt':>8} {'IQR':>6} {'ratio':>6} {'limit':>6}")
        for row in rows:
            print(
                f"{row.case:34} {row.bare_us:8.1f} {row.idle_handler_us:+8.1f} {row.agentrt_us:+8.1f}"
                f" {row.iqr_us:6.1f} {row.ratio:6.2f} {row.limit_us:6.0f}  {'ok' if row.ok else 'OVER'}"
            )
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        raise SystemExit(main())

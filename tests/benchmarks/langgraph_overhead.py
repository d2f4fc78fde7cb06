"""What observing a LangGraph run costs, in microseconds of CPU: per node without a call, and per LLM call.

    python tests/benchmarks/langgraph_overhead.py [--json] [--rounds N]

Runs of one graph take turns, round by round, so that a noisy machine disturbs all variants alike: bare, with a
handler that does nothing, and observed in each of three ways: `instrument`, a bare `AgentRTCallbackHandler`,
and `install`. The figure is the median over rounds of the difference to the bare run of the same round; IQR is its
spread. `call` is what a call adds to its node: the row less that of the empty node. CPU time, since nothing here waits
and other processes would show up in wall time. No network: a fake chat model, and ChatOpenAI on a mock
transport, where labelling the request is included.
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
from agentrt_langgraph import AgentRTCallbackHandler, install, instrument, uninstall
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

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

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


MODES = ("instrument", "handler", "install")


@dataclass
class Row:
    """One measurement, per node."""

    case: str
    mode: str
    bare_us: float
    idle_handler_us: float
    agentrt_us: float
    iqr_us: float
    ratio: float
    """agentrt's cost as a multiple of the do-nothing handler's."""
    limit_us: float
    call_us: float | None = None
    """Of `agentrt_us`, what a call costs beyond its node."""

    @property
    def ok(self) -> bool:
        return (self.agentrt_us if self.call_us is None else self.call_us) <= self.limit_us


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


def measure(case: str, node: Callable[..., Any], rounds: int) -> list[Row]:
    """Time all variants in turn; a row per mode."""
    is_async = asyncio.iscoroutinefunction(node)
    loop = asyncio.new_event_loop()
    bare, sink = build(node), Sink()
    watching = {"callbacks": [AgentRTCallbackHandler(sink)]}
    variants: dict[str, tuple[Any, Any]] = {
        "bare": (bare, None),
        "idle": (bare, {"callbacks": [Idle()]}),
        "instrument": (instrument(bare, sink), None),
        "handler": (bare, watching),
        "install": (bare, None),
    }

    def once(name: str) -> float:
        graph, config = variants[name]
        if name == "install":
            install(sink)
        began = time.process_time()
        if is_async:
            loop.run_until_complete(graph.ainvoke({"n": 0}, config))
        else:
            graph.invoke({"n": 0}, config)
        spent = time.process_time() - began
        if name == "install":
            uninstall()
            AgentRTCallbackHandler(sink)  # the others' requests are labelled again
        return spent / NODES * 1e6

    times: dict[str, list[float]] = {name: [] for name in variants}
    for name in [*variants] * 3:
        once(name)
    gc.collect()
    gc.disable()  # a collection would hit one variant of a round and not the others
    try:
        for number in range(rounds):
            order = list(variants)
            turn = number % len(order)
            for name in order[turn:] + order[:turn]:
                times[name].append(once(name))
            if number % 10 == 9:
                gc.collect()
    finally:
        gc.enable()
        loop.close()
    return [_row(case, mode, times) for mode in MODES]


def _row(case: str, mode: str, times: dict[str, list[float]]) -> Row:
    added = [with_us - bare_us for with_us, bare_us in zip(times[mode], times["bare"], strict=True)]
    idle = statistics.median(a - b for a, b in zip(times["idle"], times["bare"], strict=True))
    quartiles = statistics.quantiles(added, n=4)
    cost = statistics.median(added)
    return Row(
        case=case,
        mode=mode,
        bare_us=round(statistics.median(times["bare"]), 1),
        idle_handler_us=round(idle, 1),
        agentrt_us=round(cost, 1),
        iqr_us=round(quartiles[2] - quartiles[0], 1),
        ratio=round(cost / max(idle, 0.1), 2),
        limit_us=NODE_LIMIT_US,
    )


def with_call(rows: list[Row], empty: list[Row]) -> list[Row]:
    """The rows of a case with a call, and what the call costs beyond an empty node observed in the same way."""
    for row, node in zip(rows, empty, strict=True):
        row.call_us, row.limit_us = round(row.agentrt_us - node.agentrt_us, 1), CALL_LIMIT_US
    return rows


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

    empty_rows, aempty_rows = measure("empty node, sync", empty, rounds), measure("empty node, async", aempty, rounds)
    return [
        *empty_rows,
        *aempty_rows,
        *with_call(measure("LLM call, sync", call, rounds), empty_rows),
        *with_call(measure("LLM call, async", acall, rounds), aempty_rows),
        *with_call(measure("ChatOpenAI request, sync", request, rounds), empty_rows),
        *with_call(measure("ChatOpenAI request, async", arequest, rounds), aempty_rows),
    ]


def main() -> int:
    """Print the table; exit 1 when a limit does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--rounds", type=int, default=40, help="runs of each variant (default 40)")
    options = parser.parse_args()
    rows = cases(options.rounds)
    if options.json:
        print(json.dumps([asdict(row) | {"ok": row.ok} for row in rows], indent=2))
    else:
        print(
            f"{'per node, us':26} {'mode':10} {'bare':>7} {'idle':>6} {'ours':>7} {'IQR':>6} {'ratio':>5} {'call':>6}"
        )
        for row in rows:
            call_us = "" if row.call_us is None else f"{row.call_us:.1f}"
            print(
                f"{row.case:26} {row.mode:10} {row.bare_us:7.1f} {row.idle_handler_us:+6.1f} {row.agentrt_us:+7.1f}"
                f" {row.iqr_us:6.1f} {row.ratio:5.2f} {call_us:>6}  {'ok' if row.ok else 'OVER'}"
            )
        print(f"limits: {NODE_LIMIT_US:g} us per node without a call, {CALL_LIMIT_US:g} us per call")
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        raise SystemExit(main())

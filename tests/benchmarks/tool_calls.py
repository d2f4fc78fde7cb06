"""What tool gates add to a tool call, in microseconds of CPU: without an opinion, and when they serve.

    python tests/benchmarks/tool_calls.py [--json] [--rounds N]

A line of nodes that each run one tool, without a model. Variants run in turn, round by round; the figure is the
median over rounds of the difference to the observed graph without gates, in which `ToolNode` is untouched.
"""

import argparse
import gc
import json
import os
import statistics
import time
from typing import Any

os.environ["LANGSMITH_TRACING"] = "false"

from agentrt_langgraph import instrument, uninstall
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from agentrt.config import Settings
from agentrt.gates import ToolGates
from agentrt.identity import Identity
from agentrt.plan import RequestPlan
from agentrt.policy import Policy
from agentrt.tools import Answer, Serve, ToolCall, ToolGate

NODES = 20
WARM_UPS = 3
LIMIT_US = 50.0


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Gate(Policy, ToolGate):
    """Always gives the same answer."""

    name = "gate"

    def __init__(self, answer: Answer | None) -> None:
        self._answer = answer

    def before(self, call: ToolCall) -> Answer | None:
        """Answer without thinking."""
        del call
        return self._answer


class Sink:
    """A runtime that takes events and forgets them."""

    settings = Settings()
    clock = staticmethod(time.monotonic)

    def __init__(self, *gates: Policy) -> None:
        self.tool_gates = ToolGates(gates)
        self.kept: dict[str, Any] = {}

    def emit(self, event: object) -> None:
        """Forget it."""

    def plan(self, identity: Identity) -> RequestPlan:
        """No advice."""
        del identity
        return RequestPlan()

    def carries(self, url: str) -> bool:
        """No request is ours."""
        del url
        return False

    def fault(self, where: str, error: BaseException) -> None:
        """A fault makes the measurement worthless."""
        raise SystemExit(f"fault in {where}: {error!r}")


def build() -> Any:
    """Nodes that call one tool each."""
    graph = StateGraph(MessagesState)
    before = START
    for number in range(NODES):
        call = {"name": "add", "args": {"a": number, "b": 2}, "id": f"c{number}"}
        graph.add_node(f"ask{number}", lambda _, call=call: {"messages": [AIMessage("", tool_calls=[call])]})
        graph.add_node(f"run{number}", ToolNode([add]))
        graph.add_edge(before, f"ask{number}")
        graph.add_edge(f"ask{number}", f"run{number}")
        before = f"run{number}"
    return graph.compile()


def once(bare: Any, runtime: Sink) -> float:
    """Microseconds per tool call of one run; the class is wrapped only while a runtime with gates is there."""
    graph = instrument(bare, runtime)
    try:
        for _ in range(WARM_UPS):  # wrapping the class makes what Python cached about it cold
            graph.invoke({"messages": []}, {"recursion_limit": 10 * NODES})
        began = time.process_time()
        graph.invoke({"messages": []}, {"recursion_limit": 10 * NODES})
        return (time.process_time() - began) / NODES * 1e6
    finally:
        uninstall()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    bare = build()
    runtimes = {
        "no gate": Sink(),
        "one gate, no opinion": Sink(Gate(None)),
        "one gate, serves": Sink(Gate(Serve("3", "known"))),
    }
    times: dict[str, list[float]] = {name: [] for name in runtimes}
    for round_number in range(options.rounds + 3):
        names = list(runtimes)
        gc.collect()
        for name in names[round_number % 3 :] + names[: round_number % 3]:
            took = once(bare, runtimes[name])
            if round_number >= 3:
                times[name].append(took)
    rows = []
    for name, taken in times.items():
        added = [a - b for a, b in zip(taken, times["no gate"], strict=True)]
        low, _, high = statistics.quantiles(added, n=4)
        cost = round(statistics.median(added), 1)
        rows.append({"case": name, "added_us": cost, "iqr_us": round(high - low, 1), "limit_us": LIMIT_US})
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print(f"{row['case']:24} +{row['added_us']:7.1f} us per tool call (IQR {row['iqr_us']:.1f})")
    if any(row["added_us"] > LIMIT_US for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()

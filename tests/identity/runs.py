"""Runs one random graph under two trackers at once, one that read its structure and one with callbacks only."""

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from agentrt_langgraph import AgentRTCallbackHandler, instrument
from agentrt_langgraph.trackers import tracker_of
from langgraph.errors import GraphRecursionError

from agentrt.config import Settings
from agentrt.events import Dispatched, Event
from agentrt.gates import ToolGates
from agentrt.identity import START as ENTRY
from agentrt.identity import Identity
from agentrt.plan import RequestPlan
from tests.identity.graphs import KIND_WEIGHTS, KINDS, draw_graph
from tests.identity.truth import START, Edge, Truth, Witness, Writes

MODES = ("static", "callbacks")
RECURSION_LIMIT = 40


class Listener:
    """A runtime that keeps what it is told."""

    settings = Settings()
    tool_gates = ToolGates()
    clock = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.events: list[Event] = []
        self.faults: list[tuple[str, BaseException]] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def plan(self, identity: Identity) -> RequestPlan:
        return RequestPlan()

    def carries(self, url: str) -> bool:
        return False

    def fault(self, where: str, error: BaseException) -> None:
        self.faults.append((where, error))  # raising would only make LangChain log it

    @property
    def counts(self) -> Counter[Edge]:
        """How often each dispatch was told."""
        told = [event.dispatch for event in self.events if isinstance(event, Dispatched)]
        return Counter((START if d.source == ENTRY else d.source, d.target) for d in told)


@dataclass
class Observation:
    """One graph, run once: the truth, and what each mode told."""

    seed: str
    kind: str
    is_async: bool
    has_sends: bool
    truth: Counter[Edge]
    told: dict[str, Counter[Edge]]


def observe(seed: str) -> Observation:
    """Draw and run the graph of this seed."""
    rng = random.Random(seed)
    kind = rng.choices(KINDS, KIND_WEIGHTS)[0]
    is_async = rng.random() < 0.5
    writes, witness = Writes(), Witness()
    graph, has_sends = draw_graph(rng, kind, is_async=is_async, checkpointer=writes)
    runtimes = {mode: Listener() for mode in MODES}
    config = {
        "callbacks": [witness, AgentRTCallbackHandler(runtimes["callbacks"])],
        "configurable": {"thread_id": "1"},
        "recursion_limit": RECURSION_LIMIT,
    }
    observed = instrument(graph, runtimes["static"])
    with suppress(GraphRecursionError):  # what happened until then happened
        if is_async:
            asyncio.run(observed.ainvoke({"go": True}, config))
        else:
            observed.invoke({"go": True}, config)
    for runtime in runtimes.values():
        if runtime.faults or len(tracker_of(runtime).open_runs):
            raise AssertionError(f"graph {seed}: {runtime.faults or 'runs were left open'}")
    told = {mode: runtime.counts for mode, runtime in runtimes.items()}
    return Observation(seed, kind, is_async, has_sends, Truth(witness, writes).counts, told)

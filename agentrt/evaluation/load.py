"""The load generator: many conversations of one graph, some of them at once.

Closed loop keeps `concurrency` conversations alive; Poisson starts them at seeded random times, and still never
runs more than `concurrency`. A conversation that fails is recorded and the others go on.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.runnables import Runnable, RunnableConfig

from agentrt.errors import ConfigError
from agentrt.evaluation.measure import CallMeter, LoadResult, SessionRecord

Progress = Callable[[LoadResult], None]
"""Called after each conversation, from the thread that ran it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """How many conversations, how many at once, and when they start."""

    sessions: int
    concurrency: int
    seed: int = 0
    arrivals: Literal["closed", "poisson"] = "closed"
    rate_per_s: float | None = None
    """Mean starts per second of Poisson arrivals."""
    drive: Literal["threads", "asyncio"] = "threads"
    name: str = "session"
    """First part of every conversation's `thread_id`, which ends in its number."""

    def __post_init__(self) -> None:
        if self.sessions < 1 or self.concurrency < 1:
            raise ConfigError(f"sessions={self.sessions}, concurrency={self.concurrency}: both must be at least 1")
        if self.arrivals == "poisson" and not (self.rate_per_s and self.rate_per_s > 0):
            raise ConfigError(f"rate_per_s={self.rate_per_s}: Poisson arrivals need a rate above 0")

    def offsets_s(self) -> list[float]:
        """When each conversation may start, in seconds from the beginning; the same for the same seed."""
        if self.arrivals == "closed" or self.rate_per_s is None:
            return [0.0] * self.sessions
        chance = random.Random(self.seed)
        offsets, at_s = [], 0.0
        for _ in range(self.sessions):
            at_s += chance.expovariate(self.rate_per_s)
            offsets.append(at_s)
        return offsets


class LoadGenerator:
    """Drives a graph through a plan, once."""

    def __init__(
        self,
        graph: Runnable[Any, Any],
        inputs: Callable[[int], Mapping[str, Any]],
        plan: LoadPlan,
        *,
        on_progress: Progress | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._graph = graph
        self._inputs = inputs
        self._plan = plan
        self._on_progress = on_progress
        self._clock = clock
        self._result = LoadResult()
        self._stopped = threading.Event()

    def run(self) -> LoadResult:
        """Run all conversations to their end; exceptions of the graph are recorded, not raised."""
        started_s = self._clock()
        if self._plan.drive == "threads":
            self._run_threads(started_s)
        else:
            asyncio.run(self._run_async(started_s))
        self._result.wall_s = self._clock() - started_s
        return self._result

    def _run_threads(self, started_s: float) -> None:
        pool = ThreadPoolExecutor(self._plan.concurrency, thread_name_prefix="agentrt-load")
        try:
            jobs = [
                pool.submit(self._session, number, started_s + offset_s)
                for number, offset_s in enumerate(self._plan.offsets_s())
            ]
            for job in jobs:
                job.result()
        except BaseException:
            self._stopped.set()  # Ctrl-C: waiting conversations do not start, running ones are left to end
            raise
        finally:
            pool.shutdown(wait=not self._stopped.is_set(), cancel_futures=True)

    def _session(self, number: int, not_before_s: float) -> None:
        self._stopped.wait(max(0.0, not_before_s - self._clock()))
        if self._stopped.is_set():
            return
        session, config, begun_s = self._begin(number)
        error = None
        try:
            self._graph.invoke(self._inputs(number), config)
        except Exception as exception:
            error = f"{type(exception).__name__}: {exception}"
        self._end(session, begun_s, error)

    async def _run_async(self, started_s: float) -> None:
        waiting: Iterator[tuple[int, float]] = enumerate(self._plan.offsets_s())

        async def worker() -> None:
            for number, offset_s in waiting:
                await asyncio.sleep(max(0.0, started_s + offset_s - self._clock()))
                await self._session_async(number)

        await asyncio.gather(*(worker() for _ in range(self._plan.concurrency)))

    async def _session_async(self, number: int) -> None:
        session, config, begun_s = self._begin(number)
        error = None
        try:
            await self._graph.ainvoke(self._inputs(number), config)
        except Exception as exception:
            error = f"{type(exception).__name__}: {exception}"
        self._end(session, begun_s, error)

    def _begin(self, number: int) -> tuple[str, RunnableConfig, float]:
        session = f"{self._plan.name}-{number}"
        meter = CallMeter(session, self._result.calls, clock=self._clock)
        return session, {"configurable": {"thread_id": session}, "callbacks": [meter]}, self._clock()

    def _end(self, session: str, begun_s: float, error: str | None) -> None:
        self._result.sessions.append(
            SessionRecord(session=session, started_s=begun_s, ended_s=self._clock(), error=error)
        )
        if self._on_progress is not None:
            self._on_progress(self._result)

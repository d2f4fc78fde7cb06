"""The engine's loop: one task that runs the scheduler's steps and lets each take the time it would take.

Everything that touches blocks runs in this event loop, between steps, as in vLLM's EngineCore; nothing needs a lock.
"""

import asyncio
import logging
import time
from array import array
from collections.abc import Awaitable, Callable

from agentrt.engines.embedded.cost import CostModel
from agentrt.engines.embedded.pool import BlockPool
from agentrt.engines.embedded.request import Request, Step
from agentrt.engines.embedded.scheduler import Scheduler
from agentrt.errors import EngineError
from agentrt.identity import AgentKey
from agentrt.kv.audit import BlockState

logger = logging.getLogger("agentrt")

_SHORTEST_SLEEP_S = 1e-3
"""Shorter steps run on without sleeping and are made up for later: a sleep is not more exact than this."""

_LARGEST_LAG_S = 0.05
"""How far behind its timetable the loop may fall and still catch up, rather than run late from then on."""

_PREFETCH_PRIORITY = 2**40


class Generation:
    """The progress of one request, for one reader."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.produced = 0
        self.error: str | None = None
        self._changed = asyncio.Event()
        self._done = asyncio.Event()

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self._done.is_set()

    async def more(self) -> int:
        """Wait for more tokens than last time, or the end; the number produced. Raises EngineError."""
        await self._changed.wait()
        self._changed.clear()
        return self._checked()

    async def all(self) -> int:
        """Wait for the end; the number of tokens produced. Raises EngineError."""
        await self._done.wait()
        return self._checked()

    def advance(self, *, finished: bool) -> None:
        """One more token."""
        self.produced += 1
        self._changed.set()
        if finished:
            self._done.set()

    def fail(self, error: str) -> None:
        """Nothing more will come."""
        self.error = error
        self._changed.set()
        self._done.set()

    def _checked(self) -> int:
        if self.error is not None:
            raise EngineError(self.error)
        return self.produced


class EngineLoop:
    """Runs requests. All methods belong to the event loop that runs `run()`."""

    def __init__(
        self,
        pool: BlockPool,
        scheduler: Scheduler,
        *,
        cost: CostModel,
        time_scale: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.scheduler = scheduler
        self._pool = pool
        self._cost = cost
        self._time_scale = time_scale
        self._clock = clock
        self._sleep = sleep
        self._wake = asyncio.Event()
        self._generations: dict[str, Generation] = {}
        self._prefetches: dict[AgentKey, Generation] = {}
        self._stopped = False

    def block_states(self) -> list[BlockState]:
        """Every block of the pool, for the audit."""
        return self._pool.states()

    @property
    def load(self) -> tuple[int, int]:
        """Running and waiting requests."""
        return len(self.scheduler.running), len(self.scheduler.waiting)

    def submit(self, request: Request) -> Generation:
        """Queue a request. Raises ValueError for one the pool cannot hold, EngineError when closing."""
        if self._stopped:
            raise EngineError("the engine is closing")
        if request.identity is not None:
            self.cancel_prefetch(request.identity.agent_key)
        self.scheduler.add(request)
        generation = self._generations[request.request_id] = Generation(request)
        self._wake.set()
        return generation

    def abort(self, generation: Generation) -> None:
        """Drop a request nobody waits for; harmless when it is finished."""
        self._generations.pop(generation.request.request_id, None)
        self.scheduler.abort(generation.request)

    def prefetch(self, agent: AgentKey, token_ids: "array[int]", cache_salt: str | None) -> None:
        """Compute an agent's anchor in the background, behind all real requests."""
        if agent in self._prefetches or self._stopped:
            return
        request = Request(
            request_id=f"prefetch-{'/'.join(agent)}-{self.scheduler.counters['requests']}",
            prompt=token_ids,
            reply=array("I", (0,)),
            cache_salt=cache_salt,
            priority=_PREFETCH_PRIORITY,
            warms=agent,
        )
        self._prefetches[agent] = self.submit(request)

    def cancel_prefetch(self, agent: AgentKey) -> None:
        """The real request is here: what was computed so far stays cached, the rest it computes itself."""
        generation = self._prefetches.pop(agent, None)
        if generation is not None:
            self.abort(generation)

    def stop(self) -> None:
        """Fail everything in flight and accept nothing more."""
        self._stopped = True
        self._fail_all("the engine is closing")

    async def run(self) -> None:
        """Run steps until cancelled."""
        due_s = self._clock()
        while True:
            if not self.scheduler.has_work:
                self._wake.clear()
                await self._wake.wait()
                due_s = self._clock()
            try:
                due_s = await self._step(due_s)
            except Exception:
                logger.exception("agentrt: a step of the embedded engine failed; its requests fail with it")
                self._fail_all("the engine failed; see its log")
                await asyncio.sleep(0)  # the server goes on, even if every step should fail

    async def _step(self, due_s: float) -> float:
        """Run a step that is due to start at `due_s`; returns when it is due to end."""
        step = self.scheduler.step()
        self._pool.tell("tick", lambda order: order.tick())
        due_s = max(due_s, self._clock() - _LARGEST_LAG_S) + self._cost.seconds(step.work) * self._time_scale
        delay_s = due_s - self._clock()
        await self._sleep(delay_s if delay_s >= _SHORTEST_SLEEP_S else 0)
        self._deliver(step)
        return due_s

    def _deliver(self, step: Step) -> None:
        for request in step.produced:
            generation = self._generations.get(request.request_id)
            if generation is not None:
                generation.advance(finished=request.finished)
        for request in step.finished:
            self._generations.pop(request.request_id, None)
            if request.warms is not None:
                self._prefetches.pop(request.warms, None)

    def _fail_all(self, why: str) -> None:
        for generation in list(self._generations.values()):
            self.abort(generation)
            generation.fail(why)
        self._prefetches.clear()

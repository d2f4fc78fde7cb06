"""Wires the loop: events in, policies asked, proposals ruled on, actions sent, outcomes noted.

Three parties, and only the last two ever wait: the user's threads hand over events and read plans (no lock, no I/O);
one worker observes, asks the policies and rules, under one lock; one link talks to the engine.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from agentrt.act import Outcome, Ruling
from agentrt.ambient import labelling
from agentrt.config import Settings
from agentrt.engines.base import Engine
from agentrt.engines.breaker import Breaker
from agentrt.engines.link import EngineLink
from agentrt.engines.origin import Origin
from agentrt.engines.reports import EngineStatus
from agentrt.engines.vllm import VLLMEngine
from agentrt.errors import ConfigError
from agentrt.events import Event
from agentrt.gates import ToolGates
from agentrt.identity import Dispatch, Identity, SessionKey
from agentrt.loop import Loop, engine_observed
from agentrt.plan import NO_PLAN, RequestPlan, tenant_salts
from agentrt.policies import PrefixCache
from agentrt.policy import Policy

logger = logging.getLogger("agentrt")

_BATCH_WINDOW_S = 0.002
"""Events are taken in batches, so that the worker wakes a few hundred times a second at most."""


class Runtime:
    """The tier between an application and its engine.

    `engine`: an `Engine`, the base URL of a vLLM server with the agentrt plugin, or None for an embedded engine.
    `policies`: asked in order of name; None for the default, `[PrefixCache()]`.

    Use as a context manager, `with` or `async with`. Nothing here raises into the application after construction;
    what went wrong is counted in `stats()`.
    """

    def __init__(
        self,
        engine: Engine | str | None = None,
        policies: Iterable[Policy] | None = None,
        *,
        settings: Settings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings = settings or Settings.load()
        self.clock = clock
        policies = [PrefixCache()] if policies is None else list(policies)
        self.tool_gates = ToolGates(policies)
        self._loop = Loop(
            policies, clock=clock, warm_budget_tokens=settings.warm_budget_tokens, period_s=settings.status_period_s
        )
        self._salt_of = tenant_salts(settings)
        self._owns_engine = not isinstance(engine, Engine)
        self.engine = engine if isinstance(engine, Engine) else self._make_engine(engine)
        self._origin = Origin(self.engine.base_url)
        self.kept: dict[str, Any] = {}
        """What integrations keep for as long as this runtime lives, by their name."""
        self._faults: dict[str, int] = {}
        self._events_dropped = 0
        self._lock = threading.RLock()
        self._events: deque[Event | threading.Event] = deque()
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._link = EngineLink(
            self.engine,
            capacity=self.settings.queue_size,
            tenant=self.settings.tenant,
            on_outcomes=self._note_outcomes,
            on_status=self._note_status,
        )
        self._worker = threading.Thread(target=self._work, name="agentrt-worker", daemon=True)
        self._worker.start()

    # ---- for integrations ---------------------------------------------------------------------------------

    def emit(self, event: Event) -> None:
        """Hand over an event. Never blocks, never raises; beyond `queue_size` the oldest is dropped and counted."""
        if self.settings.disabled or self._closing.is_set():
            return
        events = self._events
        if len(events) >= self.settings.queue_size:
            self._drop_oldest()
        events.append(event)
        if not self._awake.is_set():
            self._awake.set()

    def plan(self, identity: Identity) -> RequestPlan:
        """The plan that travels with a call. A look-up; never raises."""
        forecast, salt = self._loop.forecasts.get(identity.session_key), self._salt_of(identity.tenant)
        if forecast is None:
            return NO_PLAN if salt is None else RequestPlan(cache_salt=salt)
        return RequestPlan(
            reuse_p=forecast.probabilities.get(identity.agent),
            reuse_s=forecast.next_use_s.get(identity.agent),
            cache_salt=salt,
        )

    def carries(self, url: str) -> bool:
        """Whether a request to this URL goes to our engine. All loopback names are the same host."""
        return not self.settings.disabled and self._origin.serves(url)

    def fault(self, where: str, error: BaseException) -> None:
        """Something of ours failed at `where`: count it, log it the first time, carry on."""
        with self._lock:
            count = self._faults[where] = self._faults.get(where, 0) + 1
        if count == 1:
            logger.error("agentrt: fault in %s; the graph goes on without it (said once)", where, exc_info=error)

    # ---- for people ---------------------------------------------------------------------------------------

    @property
    def rulings(self) -> tuple[Ruling, ...]:
        """The last rulings, oldest first, with the engine's outcome where it has answered."""
        with self._lock:
            return self._loop.rulings

    def dispatches(self, session: str, *, tenant: str | None = None) -> tuple[Dispatch, ...]:
        """Edges seen in a session, oldest first; empty for a session never seen."""
        with self._lock:
            return self._loop.dispatches(SessionKey(tenant or self.settings.tenant, session))

    def stats(self) -> dict[str, Any]:
        """Counts of events, actions and faults, the accounts of policies and tool gates, how the engine was reached."""
        with self._lock:
            return {
                **self._loop.stats(),
                "tools": self.tool_gates.stats(),
                "events_dropped": self._events_dropped,
                "labelling": labelling(),
                "faults": dict(self._faults),
                "engine": {
                    "base_url": self.engine.base_url,
                    "last_error": self._link.last_error,
                    "errors": self._link.errors(),
                },
            }

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until every event so far was observed and every granted action answered; False on timeout."""
        done = threading.Event()
        self._events.append(done)
        self._awake.set()
        return done.wait(timeout_s)

    def close(self) -> None:
        """Send what is queued (waiting at most the engine's timeout), then stop. Idempotent."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._awake.set()
        self._worker.join(self.settings.timeout_s)
        self._link.close(self.settings.timeout_s)
        if self._owns_engine:
            self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        # Off the event loop: the tasks of other graphs go on while the last actions leave.
        await asyncio.to_thread(self.close)

    # ---- the worker ---------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not (self._closing.is_set() and not self._events):
            self._awake.wait(self.settings.status_period_s)
            self._closing.wait(_BATCH_WINDOW_S)
            self._awake.clear()
            try:
                self._step()
            except Exception as error:
                self.fault("runtime.step", error)

    def _step(self) -> None:
        """Observe what arrived, ask the policies, rule, and send what was granted."""
        waiting: list[threading.Event] = []
        with self._lock:
            for _ in range(len(self._events)):
                event = self._events.popleft()
                if isinstance(event, threading.Event):
                    waiting.append(event)
                    continue
                try:
                    self._loop.observe(event)
                except Exception as error:
                    self.fault("runtime.observe", error)
            granted = self._loop.rule()
            look = self._loop.wants_look()
        if granted:
            self._link.send(granted)
        if look:
            self._link.look()
        for done in waiting:
            self._link.flush(done)

    # ---- called from the link's thread --------------------------------------------------------------------

    def _note_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        with self._lock:
            self._loop.note_outcomes(outcomes)

    def _note_status(self, status: EngineStatus) -> None:
        self.emit(engine_observed(status, at_s=self.clock()))

    # ---- inside -------------------------------------------------------------------------------------------

    def _drop_oldest(self) -> None:
        try:
            dropped = self._events.popleft()
        except IndexError:
            return
        if isinstance(dropped, threading.Event):
            dropped.set()
        self._events_dropped += 1

    def _make_engine(self, url: str | None) -> Engine:
        if url is not None:
            settings = self.settings
            breaker = Breaker(failures=settings.breaker_failures, reset_s=settings.breaker_reset_s, clock=self.clock)
            return VLLMEngine(url, api_key=settings.api_key, timeout_s=settings.timeout_s, breaker=breaker)
        try:
            from agentrt.engines.embedded import EmbeddedEngine  # noqa: PLC0415 - an optional extra
        except ImportError as error:
            raise ConfigError(
                "no engine was given, and the embedded one needs `pip install 'agentrt[embedded]'`; "
                "or name a vLLM server: Runtime('http://localhost:8000')"
            ) from error
        return EmbeddedEngine()

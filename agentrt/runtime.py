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
from urllib.parse import urlsplit

from agentrt.act import Arbiter, Outcome, Ruling, Verdict
from agentrt.config import Settings
from agentrt.engines.base import Engine
from agentrt.engines.link import EngineLink
from agentrt.engines.vllm import VLLMEngine
from agentrt.engines.wire import Action, EngineStatus
from agentrt.errors import ConfigError
from agentrt.events import AnchorState, CallStarted, EngineObserved, Event, RunEnded
from agentrt.hosting import PolicyHost
from agentrt.identity import END, Dispatch, Identity, SessionKey
from agentrt.observe import Observer, Phase
from agentrt.plan import NO_PLAN, RequestPlan
from agentrt.policies import PrefixCache
from agentrt.policy import Policy
from agentrt.predict import Forecast, Horizon

logger = logging.getLogger("agentrt")

MAX_RULINGS = 10_000
PLAN_HORIZON = Horizon(dispatches=8)

_BATCH_WINDOW_S = 0.002
"""Events are taken in batches, so that the worker wakes a few hundred times a second at most."""

_LOOPBACK = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}  # noqa: S104 - compared with, never bound
_PORTS = {"http": 80, "https": 443}


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
        self.settings = settings or Settings.load()
        self.clock = clock
        self._host = PolicyHost([PrefixCache()] if policies is None else policies)
        self._owns_engine = not isinstance(engine, Engine)
        self.engine = engine if isinstance(engine, Engine) else self._make_engine(engine)
        self._origin = _origin(self.engine.base_url)
        self._carried: dict[str, bool] = {}
        self._observer = Observer()
        self._arbiter = Arbiter()
        self._rulings: dict[int, Ruling] = {}
        self._forecasts: dict[SessionKey, Forecast] = {}
        self._faults: dict[str, int] = {}
        self._counts = {"events": 0, "events_dropped": 0}
        self._budget_tokens = self.settings.warm_budget_tokens
        self._next_look_s = 0.0
        self._lock = threading.RLock()
        self._events: deque[Event | threading.Event] = deque()
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._link = EngineLink(
            self.engine,
            capacity=self.settings.queue_size,
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
        forecast = self._forecasts.get(identity.session_key)
        if forecast is None:
            return NO_PLAN
        return RequestPlan(
            reuse_p=forecast.probabilities.get(identity.agent), reuse_s=forecast.next_use_s.get(identity.agent)
        )

    def carries(self, url: str) -> bool:
        """Whether a request to this URL goes to our engine. All loopback names are the same host."""
        known = self._carried.get(url)
        if known is None:
            try:
                known = _origin(url) == self._origin and not self.settings.disabled
            except ValueError:
                known = False
            if len(self._carried) < 1000:  # noqa: PLR2004 - bounded; URLs of clients are few
                self._carried[url] = known
        return known

    def fault(self, where: str, error: BaseException) -> None:
        """Something of ours failed at `where`: count it, log it the first time, carry on."""
        with self._lock:
            self._faults[where] = self._faults.get(where, 0) + 1
            first = self._faults[where] == 1
        if first:
            logger.error("agentrt: fault in %s; the graph goes on without it (said once)", where, exc_info=error)

    # ---- for people ---------------------------------------------------------------------------------------

    @property
    def rulings(self) -> tuple[Ruling, ...]:
        """The last rulings, oldest first, with the engine's outcome where it has answered."""
        with self._lock:
            return tuple(self._rulings.values())

    def dispatches(self, session: str, *, tenant: str | None = None) -> tuple[Dispatch, ...]:
        """Edges seen in a session, oldest first; empty for a session never seen."""
        with self._lock:
            return self._observer.dispatches(SessionKey(tenant or self.settings.tenant, session))

    def stats(self) -> dict[str, Any]:
        """Counts of events, actions and faults, the policies' accounts, and how the engine was reached."""
        with self._lock:
            actions: dict[str, int] = {}
            for ruling in self._rulings.values():
                if ruling.outcome is not None:
                    actions[ruling.outcome.status] = actions.get(ruling.outcome.status, 0) + 1
            return {
                **self._counts,
                "faults": dict(self._faults),
                "policies": self._host.stats(),
                "sessions": len(self._observer.view(self.clock()).sessions),
                "actions": actions,
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
                if isinstance(event, Event):
                    self._observe(event)
                else:
                    waiting.append(event)
            granted = self._rule()
            look = self._wants_look()
        if granted:
            self._link.send(granted)
        if look:
            self._link.look()
        for done in waiting:
            self._link.flush(done)

    def _observe(self, event: Event) -> None:
        self._counts["events"] += 1
        self._observer.fold(event)
        view = self._observer.view(self.clock())
        if isinstance(event, CallStarted | RunEnded):
            over = isinstance(event, RunEnded)
            happened = event.identity.agent if isinstance(event, CallStarted) else END
            self._host.learn_forecasts(event.session, happened, view, over=over)
        self._host.observe(event, view)
        if isinstance(event, CallStarted):
            forecast = self._host.predict(event.session, PLAN_HORIZON, view)
            if forecast is not None:
                self._forecasts[event.session] = forecast
                if len(self._forecasts) > len(view.sessions) + 1:
                    self._forecasts.pop(next(iter(self._forecasts)))
        elif isinstance(event, RunEnded):
            self._forecasts.pop(event.session, None)

    def _rule(self) -> list[Action]:
        now = self.clock()
        rulings = self._arbiter.rule(
            self._host.act(self._observer.view(now)), now=now, budget_tokens=self._budget_tokens
        )
        granted = []
        for ruling in rulings:
            self._rulings[ruling.ruling_id] = ruling
            if ruling.verdict is Verdict.GRANTED:
                self._budget_tokens -= ruling.proposal.cost_tokens
                self._host.granted(ruling.policy)
                granted.append(_action(ruling))
        while len(self._rulings) > MAX_RULINGS:
            self._rulings.pop(next(iter(self._rulings)))
        return granted

    def _wants_look(self) -> bool:
        """While a session runs, look at the engine once a period; the budget for warming is per period."""
        now = self.clock()
        if now < self._next_look_s:
            return False
        if all(s.phase is Phase.ENDED for s in self._observer.view(now).sessions.values()):
            return False
        self._next_look_s = now + self.settings.status_period_s
        self._budget_tokens = self.settings.warm_budget_tokens
        return True

    # ---- called from the link's thread --------------------------------------------------------------------

    def _note_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        with self._lock:
            for outcome in outcomes:
                ruling = self._rulings.get(int(outcome.action_id))
                if ruling is not None:
                    self._rulings[ruling.ruling_id] = ruling.with_outcome(outcome)

    def _note_status(self, status: EngineStatus) -> None:
        self.emit(
            EngineObserved(
                at_s=self.clock(),
                running=status.running,
                waiting=status.waiting,
                free_blocks=status.free_blocks,
                total_blocks=status.total_blocks,
                block_size_tokens=status.block_size_tokens,
                anchors=tuple(AnchorState(**anchor.model_dump()) for anchor in status.anchors),
            )
        )

    # ---- inside -------------------------------------------------------------------------------------------

    def _drop_oldest(self) -> None:
        try:
            dropped = self._events.popleft()
        except IndexError:
            return
        if isinstance(dropped, threading.Event):
            dropped.set()
        self._counts["events_dropped"] += 1

    def _make_engine(self, url: str | None) -> Engine:
        if url is not None:
            return VLLMEngine(url, api_key=self.settings.api_key, timeout_s=self.settings.timeout_s)
        try:
            from agentrt.engines.embedded import EmbeddedEngine  # noqa: PLC0415 - an optional extra
        except ImportError as error:
            raise ConfigError(
                "no engine was given, and the embedded one needs `pip install 'agentrt[embedded]'`; "
                "or name a vLLM server: Runtime('http://localhost:8000')"
            ) from error
        return EmbeddedEngine()


def _action(ruling: Ruling) -> Action:
    target = ruling.proposal.target
    named = {
        "tenant": target.tenant,
        "workload": target.workload,
        "session": target.session,
        "agent": target.agent,
        "invocation": target.invocation,
    }
    payload = {name: value for name, value in named.items() if value is not None}
    return Action(
        action_id=str(ruling.ruling_id),
        action_type=ruling.proposal.action_type,
        payload={**payload, **ruling.proposal.payload},
    )


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    return (parts.scheme, "localhost" if host in _LOOPBACK else host, parts.port or _PORTS.get(parts.scheme))

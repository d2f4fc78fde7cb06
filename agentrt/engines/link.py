"""The one thread that talks to an engine, so that nobody else waits for it.

Actions go into a bounded outbox and leave in order, in messages of up to `BATCH`; outcomes and status snapshots come
back by callback. When the outbox is full the oldest action is dropped and told `undelivered`, never the caller
blocked.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from agentrt.act import Outcome, OutcomeStatus
from agentrt.engines.base import Engine
from agentrt.engines.reports import EngineStatus
from agentrt.engines.wire import Action
from agentrt.errors import EngineError

logger = logging.getLogger("agentrt")

BATCH = 64

_Work = Action | threading.Event | None
"""An action, a caller waiting for everything before it, or None: look at the engine's status."""


class EngineLink:
    """Owns the thread. `on_outcomes` and `on_status` are called from it and must not raise."""

    def __init__(
        self,
        engine: Engine,
        *,
        capacity: int,
        tenant: str,
        on_outcomes: Callable[[Sequence[Outcome]], None],
        on_status: Callable[[EngineStatus], None],
    ) -> None:
        self._engine = engine
        self._capacity = capacity
        self._tenant = tenant
        self._on_outcomes = on_outcomes
        self._on_status = on_status
        self._outbox: deque[_Work] = deque()
        self._ready = threading.Condition()
        self._closed = False
        self._errors: dict[str, int] = {}
        self.last_error: str | None = None
        """What the engine said last when it could not be asked; None while it answers."""
        self._thread = threading.Thread(target=self._run, name="agentrt-engine", daemon=True)
        self._thread.start()

    def send(self, actions: Sequence[Action]) -> None:
        """Queue actions, in order."""
        dropped: list[Action] = []
        with self._ready:
            self._outbox.extend(actions)
            while len(self._outbox) > self._capacity:
                oldest = self._outbox.popleft()
                if isinstance(oldest, Action):
                    dropped.append(oldest)
                elif isinstance(oldest, threading.Event):
                    oldest.set()
            self._ready.notify()
        if dropped:
            self._undelivered(dropped, "the outbox is full")

    def look(self) -> None:
        """Ask for the engine's status, once what is queued has been sent."""
        with self._ready:
            if None not in self._outbox:
                self._outbox.append(None)
                self._ready.notify()

    def flush(self, done: threading.Event) -> None:
        """Set `done` once everything queued so far was answered or given up."""
        with self._ready:
            if self._closed:
                done.set()
                return
            self._outbox.append(done)
            self._ready.notify()

    def close(self, timeout_s: float) -> None:
        """Stop after what is queued, waiting at most `timeout_s`."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._thread.join(timeout_s)

    def errors(self) -> dict[str, int]:
        """Times the engine could not be asked, by kind."""
        return dict(self._errors)

    def _run(self) -> None:
        while True:
            with self._ready:
                while not self._outbox and not self._closed:
                    self._ready.wait()
                if not self._outbox:
                    return
                work = [self._outbox.popleft() for _ in range(min(BATCH, len(self._outbox)))]
            self._send([item for item in work if isinstance(item, Action)])
            if None in work:
                self._look()
            for item in work:
                if isinstance(item, threading.Event):
                    item.set()

    def _send(self, actions: Sequence[Action]) -> None:
        if not actions:
            return
        try:
            outcomes = self._engine.execute(actions)
        except Exception as error:
            self._failed(error)
            self._undelivered(actions, str(error))
            return
        self.last_error = None
        self._on_outcomes(outcomes)

    def _look(self) -> None:
        try:
            status = self._engine.status(tenant=self._tenant)
        except Exception as error:
            self._failed(error)
            return
        self.last_error = None
        self._on_status(status)

    def _undelivered(self, actions: Sequence[Action], reason: str) -> None:
        self._on_outcomes(
            [Outcome(action_id=a.action_id, status=OutcomeStatus.UNDELIVERED, reason=reason) for a in actions]
        )

    def _failed(self, error: Exception) -> None:
        kind = type(error).__name__
        self.last_error = f"{kind}: {error}"
        self._errors[kind] = self._errors.get(kind, 0) + 1
        if self._errors[kind] == 1:
            expected = isinstance(error, EngineError)
            logger.warning(
                "agentrt: %s; the graph goes on without it (said once)",
                self.last_error,
                exc_info=None if expected else error,
            )

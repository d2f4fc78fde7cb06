"""Fixtures shared by all tests."""

import threading
from collections.abc import Sequence

import pytest

from agentrt.act import Outcome, OutcomeStatus
from agentrt.engines.base import Engine
from agentrt.engines.reports import AuditReply, Capabilities, EngineStatus, Residency
from agentrt.engines.wire import Action
from agentrt.errors import EngineUnreachable


class RecordingEngine(Engine):
    """A whole engine that only writes down what it is asked; it can be made slow or dead."""

    def __init__(self, base_url: str = "http://127.0.0.1:1") -> None:
        self._base_url = base_url
        self.actions: list[Action] = []
        self.dead = False
        self.hold = threading.Event()
        self.hold.set()
        self.engine_status = EngineStatus(
            order="agentrt", running=0, waiting=0, total_blocks=64, free_blocks=64, cached_blocks=0, groups=0,
            sessions=0, faults=0,
        )  # fmt: skip

    @property
    def base_url(self) -> str:
        return self._base_url

    def execute(self, actions: Sequence[Action], *, message_id: str | None = None) -> list[Outcome]:
        self.hold.wait(10)
        if self.dead:
            raise EngineUnreachable("no answer from http://127.0.0.1:1")
        self.actions += actions
        return [Outcome(action_id=a.action_id, status=OutcomeStatus.ACCEPTED) for a in actions]

    def capabilities(self) -> Capabilities:
        return Capabilities(
            protocol_version="1", engine="embedded", engine_version="0", agentrt_version="0", order="agentrt",
            block_size_tokens=16, num_blocks=64,
        )  # fmt: skip

    def status(self, *, tenant="default") -> EngineStatus:
        if self.dead:
            raise EngineUnreachable("no answer from http://127.0.0.1:1")
        return self.engine_status

    def audit(self) -> AuditReply:
        return AuditReply(blocks=0, findings=[])

    def residency(self, *, agent=None, session=None, tenant="default") -> list[Residency]:
        return []


@pytest.fixture
def engine():
    """An engine that records."""
    return RecordingEngine()


class Clock:
    """A clock the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    """Time that passes when told."""
    return Clock()

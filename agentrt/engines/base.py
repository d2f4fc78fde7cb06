"""The contract of an engine: carry out actions, say what it can do and how it stands.

Methods block for at most the engine's own timeout and raise `EngineError` when it cannot be asked; the
runtime calls them from its own thread, never from the user's.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

from agentrt.act import Outcome
from agentrt.engines.reports import AuditReply, Capabilities, EngineStatus, Residency
from agentrt.engines.wire import Action
from agentrt.identity import DEFAULT_TENANT


class Engine(ABC):
    """Where actions are carried out. Held to one behaviour by `agentrt.testing.EngineTests`."""

    @property
    @abstractmethod
    def base_url(self) -> str:
        """Root URL of the engine's HTTP server, without `/v1`. Requests to it carry identity; no others do."""

    @abstractmethod
    def execute(self, actions: Sequence[Action], *, message_id: str | None = None) -> list[Outcome]:
        """Carry out actions; one outcome each, in order. A repeated `message_id` has no second effect.

        Raises EngineError when the engine cannot be asked or refuses the message.
        """

    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this engine can do. Raises EngineError."""

    @abstractmethod
    def status(self, *, tenant: str = DEFAULT_TENANT) -> EngineStatus:
        """How it stands now; of anchors, those of one tenant. Raises EngineError."""

    @abstractmethod
    def residency(
        self, *, agent: str | None = None, session: str | None = None, tenant: str = DEFAULT_TENANT
    ) -> list[Residency]:
        """Which blocks of an agent or a session are resident, by owner group. Raises EngineError."""

    @abstractmethod
    def audit(self) -> AuditReply:
        """Whether queue, ownership and blocks agree; walks the whole pool. Raises EngineError."""

    def close(self) -> None:  # noqa: B027 - optional by design
        """Release connections, threads and ports."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

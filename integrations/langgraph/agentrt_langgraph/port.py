"""What this package needs of a runtime, and no more. `agentrt.runtime.Runtime` has it."""

from collections.abc import Mapping
from typing import Protocol

from agentrt.config import Settings
from agentrt.events import Event
from agentrt.gates import ToolGates
from agentrt.identity import Identity


class Plan(Protocol):
    """What the policies say about one request."""

    @property
    def priority(self) -> int:
        """Higher is more important; 0 is the engine's default and is not sent."""

    def fields(self) -> Mapping[str, float | str | None]:
        """JSON scalars for the label."""


class RuntimePort(Protocol):
    """The loop, seen from the framework's side. No method blocks; `emit` and `fault` never raise."""

    @property
    def settings(self) -> Settings:
        """Tenant, and the kill switch."""

    @property
    def tool_gates(self) -> ToolGates:
        """What is asked about tool calls; falsy when nothing is."""

    def clock(self) -> float:
        """Seconds, the time base of events."""

    def emit(self, event: Event) -> None:
        """Take a fact."""

    def plan(self, identity: Identity) -> Plan:
        """Advice for one request of this caller."""

    def carries(self, url: str) -> bool:
        """Whether requests to this base URL reach the runtime's engine."""

    def fault(self, where: str, error: BaseException) -> None:
        """Count an error of ours, and log it once per place."""

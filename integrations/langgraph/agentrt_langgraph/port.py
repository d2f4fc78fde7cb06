"""What this package needs of a runtime, and no more. `agentrt.runtime.Runtime` has it."""

from typing import Any, Protocol

from agentrt.config import Settings
from agentrt.events import Event
from agentrt.gates import ToolGates
from agentrt.identity import Identity
from agentrt.plan import RequestPlan


class RuntimePort(Protocol):
    """The loop, seen from the framework's side. No method blocks; `emit` and `fault` never raise."""

    @property
    def settings(self) -> Settings:
        """Tenant, and the kill switch."""

    @property
    def tool_gates(self) -> ToolGates:
        """What is asked about tool calls; falsy when nothing is."""

    @property
    def kept(self) -> dict[str, Any]:
        """What integrations keep for as long as this runtime lives, by their name."""

    def clock(self) -> float:
        """Seconds, the time base of events."""

    def emit(self, event: Event) -> None:
        """Take a fact."""

    def plan(self, identity: Identity) -> RequestPlan:
        """Advice for one request of this caller."""

    def carries(self, url: str) -> bool:
        """Whether requests to this base URL reach the runtime's engine."""

    def fault(self, where: str, error: BaseException) -> None:
        """Count an error of ours, and log it once per place."""

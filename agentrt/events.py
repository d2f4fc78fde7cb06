"""What is said: immutable facts with a time, from the framework and from the engine.

Times (`at_s`) are seconds on the runtime's clock. No event carries prompt text or tool results.
"""

from dataclasses import dataclass
from typing import Literal

from agentrt.identity import Dispatch, Identity, SessionKey

ToolOutcome = Literal["ran", "served", "denied", "asked"]
"""What became of a tool call: it ran, a result stood in for it, it was refused, or a human is being asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A fact. Policies must tolerate event types they do not know."""

    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEvent(Event):
    """A fact about one conversation."""

    session: SessionKey


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(SessionEvent):
    """A graph run began. `resumable`: the framework can continue this session later (a checkpointer)."""

    workload: str
    resumable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(SessionEvent):
    """A graph run ended, normally, by an exception (`failed`) or at an interrupt (`interrupted`)."""

    workload: str
    resumable: bool = False
    failed: bool = False
    interrupted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchAbandoned(SessionEvent):
    """These agent invocations will not be continued (a cancelled branch, a retry, a fork)."""

    workload: str
    invocations: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched(SessionEvent):
    """One agent handed to another."""

    workload: str
    dispatch: Dispatch


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted(SessionEvent):
    """An LLM request is about to be sent."""

    identity: Identity
    call_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded(SessionEvent):
    """An LLM request ended. Token counts are None where the server did not say."""

    identity: Identity
    call_id: str
    failed: bool = False
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStarted(SessionEvent):
    """A tool began under an agent. Names only: arguments and results are never carried.

    `arguments_digest`: equal for equal arguments of one tenant (`agentrt.tools.arguments_digest`), None for arguments
    that are no JSON.
    """

    identity: Identity
    tool: str
    tool_run_id: str
    arguments_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolEnded(SessionEvent):
    """A tool ended after `duration_s` seconds.

    Unless it `ran`, a tool gate answered in its place: `policy` says which and `reason` why. Then `duration_s` is not
    the tool's own.
    """

    identity: Identity
    tool: str
    tool_run_id: str
    duration_s: float
    failed: bool = False
    arguments_digest: str | None = None
    outcome: ToolOutcome = "ran"
    policy: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureDeclared(Event):
    """What a graph declares before its first run: possible edges, as a weak prior."""

    tenant: str
    workload: str
    edges: tuple[Dispatch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorState:
    """Residency of one agent's shared prompt prefix on the engine, in blocks."""

    tenant: str
    workload: str
    agent: str
    known_blocks: int
    resident_blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineObserved(Event):
    """A snapshot of the engine: queue lengths, free blocks, and which anchors are resident."""

    running: int
    waiting: int
    free_blocks: int
    total_blocks: int
    block_size_tokens: int = 16
    anchors: tuple[AnchorState, ...] = ()

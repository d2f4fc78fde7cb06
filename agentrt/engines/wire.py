"""Messages of `/v1/agentrt`, protocol version 1: the merged `kv_hints` envelope with our action types.

Both ends use these models: the client to build messages, the server to refuse malformed ones with the field
named. An unknown `action_type` is not malformed: it is answered `rejected`, so that a newer client can talk to
an older plugin.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from agentrt.act import OutcomeStatus
from agentrt.identity import DEFAULT_TENANT, MAX_NAME_CHARS

PROTOCOL_VERSION = "1"
PREFIX = "/v1/agentrt"
LABEL_KEY = "agentrt"
"""Key in a request's `vllm_xargs` under which the call's identity and plan travel, as a JSON string."""

SESSION_HEADER = "X-Session-ID"
LABEL_HEADER = "X-AgentRT-Label"
MAX_TTL_S = 3600.0

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TargetFields(_Message):
    """What an action is about: a session, an agent, both (one agent's context), or one invocation."""

    tenant: Name = DEFAULT_TENANT
    workload: Name | None = None
    session: Name | None = None
    agent: Name | None = None
    invocation: Name | None = None


class Score(TargetFields):
    """`agentrt.kv.score`: overrule the target's value for a while (a context: until its agent's next call)."""

    score: float = Field(ge=0, le=1, allow_inf_nan=False)
    ttl_s: float = Field(60.0, gt=0, le=MAX_TTL_S, allow_inf_nan=False)


class Retain(TargetFields):
    """`agentrt.kv.retain`: keep the target's blocks before all others, softly, within the server's budget."""

    priority: int = Field(50, ge=0, le=100)
    ttl_s: float = Field(gt=0, le=MAX_TTL_S, allow_inf_nan=False)


class Release(TargetFields):
    """`agentrt.kv.release`: the target's own blocks are reused first. Shared blocks are left alone."""


class Prefetch(TargetFields):
    """`agentrt.kv.prefetch`: compute an agent's anchor ahead of need, if the engine is idle."""

    agent: Name


class RunEnded(TargetFields):
    """`agentrt.signal.run_ended`: a graph run of the session ended."""

    session: Name
    resumable: bool = False


class BranchAbandoned(TargetFields):
    """`agentrt.signal.branch_abandoned`: these invocations will not go on."""

    session: Name
    invocations: list[Name] = Field(min_length=1, max_length=1000)


class AgentUnreachable(TargetFields):
    """`agentrt.signal.agent_unreachable`: the session cannot reach the agent any more."""

    session: Name
    agent: Name


class ToolStarted(TargetFields):
    """`agentrt.signal.tool_started`: the session waits on a tool, `expected_s` seconds if known."""

    session: Name
    tool: Name
    expected_s: float | None = Field(None, ge=0, allow_inf_nan=False)


class ToolEnded(TargetFields):
    """`agentrt.signal.tool_ended`: the session goes on."""

    session: Name
    tool: Name


class Edge(_Message):
    """One declared edge with its weight in (0, 1]."""

    source: Name
    target: Name
    weight: float = Field(1.0, gt=0, le=1, allow_inf_nan=False)


class Prior(TargetFields):
    """`agentrt.signal.prior`: edges a workload declares before its first run."""

    workload: Name
    edges: list[Edge] = Field(max_length=10_000)


PAYLOADS: dict[str, type[TargetFields]] = {
    "agentrt.kv.score": Score,
    "agentrt.kv.retain": Retain,
    "agentrt.kv.release": Release,
    "agentrt.kv.prefetch": Prefetch,
    "agentrt.signal.run_ended": RunEnded,
    "agentrt.signal.branch_abandoned": BranchAbandoned,
    "agentrt.signal.agent_unreachable": AgentUnreachable,
    "agentrt.signal.tool_started": ToolStarted,
    "agentrt.signal.tool_ended": ToolEnded,
    "agentrt.signal.prior": Prior,
}


class Action(_Message):
    """One action of a message."""

    action_id: Name
    action_type: Name
    action_version: Literal["1.0"] = "1.0"
    payload: dict[str, Any] = Field(default_factory=dict)


class ActionMessage(_Message):
    """Body of `POST /v1/agentrt/actions`. A repeated `message_id` gets the first answer and no second effect."""

    protocol_version: str
    message_id: Name
    actions: list[Action] = Field(min_length=1)


class ActionOutcome(_Message):
    """The answer to one action."""

    action_id: str
    outcome: OutcomeStatus
    reason: str = ""


class ActionReply(_Message):
    """Answer to a message: one outcome per action, in order."""

    protocol_version: str = PROTOCOL_VERSION
    message_id: str
    outcomes: list[ActionOutcome]


class Capabilities(BaseModel):
    """Answer of `GET /v1/agentrt/capabilities`. Unknown fields are ignored, so that either side may be newer."""

    protocol_version: str
    engine: str
    """`vllm` or `embedded`."""
    engine_version: str
    agentrt_version: str
    order: Literal["agentrt", "lru"]
    """Who orders eviction. `lru`: a seam was missing or a fault occurred; `degraded` says which."""
    degraded: list[str] = Field(default_factory=list)
    actions: list[str] = Field(default_factory=list)
    block_size_tokens: int
    num_blocks: int


class Anchor(BaseModel):
    """An agent's shared prompt prefix: how many of its blocks are known and resident."""

    tenant: str
    workload: str
    agent: str
    known_blocks: int
    resident_blocks: int


class GuardStatus(BaseModel):
    """The guard: the order's hit rate beside that of a shadow LRU over the same requests, on a sample of blocks."""

    mode: Literal["order", "trial", "lru"]
    """`lru`: the order lost and stands back for a while; `trial`: it is tried again."""
    sampled_share: float
    lookups: int
    """Sampled lookups behind the rates; older ones fade."""
    hit_rate: float
    lru_hit_rate: float
    step_downs: int


class EngineStatus(BaseModel):
    """Answer of `GET /v1/agentrt/status`."""

    order: Literal["agentrt", "lru"]
    running: int
    waiting: int
    block_size_tokens: int = 16
    total_blocks: int
    free_blocks: int
    cached_blocks: int
    """Free blocks that still hold a cached prefix."""
    groups: int
    sessions: int
    faults: int
    guard: GuardStatus | None = None
    anchors: list[Anchor] = Field(default_factory=list)
    counters: dict[str, int] = Field(default_factory=dict)

    def of_tenant(self, tenant: str) -> "EngineStatus":
        """The same, without the anchors of other tenants."""
        return self.model_copy(update={"anchors": [a for a in self.anchors if a.tenant == tenant]})


class Residency(BaseModel):
    """One owner group in the answer of `GET /v1/agentrt/residency`."""

    kind: Literal["anchor", "context", "unknown"]
    tenant: str | None = None
    workload: str | None = None
    agent: str | None = None
    session: str | None = None
    blocks: int
    """Resident blocks, in use or free."""
    free_blocks: int
    """Of these, evictable now."""
    value: float
    """What orders eviction between groups; lowest goes first."""


class ResidencyReply(BaseModel):
    """Answer of `GET /v1/agentrt/residency`."""

    groups: list[Residency]


class AuditReply(BaseModel):
    """Answer of `GET /v1/agentrt/audit`: whether queue, ownership and blocks agree, block by block."""

    blocks: int
    """How many were looked at."""
    findings: list[str]
    """What is wrong, in words, 100 at most. Empty when all is well."""

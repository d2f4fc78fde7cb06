"""What an engine says of itself: the answers to `GET /v1/agentrt/...`.

Unknown fields are ignored, so that either side may be the newer one.
"""

from typing import Literal

from pydantic import BaseModel, Field


class Capabilities(BaseModel):
    """Answer of `GET /v1/agentrt/capabilities`."""

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

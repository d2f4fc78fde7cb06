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

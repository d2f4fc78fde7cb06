"""Who makes a call: the join key between a framework and an engine.

An `Identity` travels on the request itself (see `Identity.to_label`), so it crosses processes and is
never later than the blocks it explains.
"""

import json
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

DEFAULT_TENANT = "default"
MAX_NAME_CHARS = 256
"""Longer names are refused in labels: an id is a key, not a place for data."""

MAX_LABEL_CHARS = 4096
# A label is built for every request: `json.dumps` of a dict would take thrice as long.
_quote = json.encoder.encode_basestring_ascii


class SessionKey(NamedTuple):
    """One conversation of one tenant."""

    tenant: str
    session: str


class AgentKey(NamedTuple):
    """A role with its own prompt, stable across sessions and processes."""

    tenant: str
    workload: str
    agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The caller of one LLM request or tool.

    `agent` is the `/`-joined path of agent names (`supervisor/researcher`); `invocation` is one visit of
    that agent in the session; `parent` is the agent that dispatched it, where known; `step` counts the
    session's calls from 0.
    """

    session: str
    agent: str
    workload: str = "default"
    tenant: str = DEFAULT_TENANT
    invocation: str = ""
    parent: str | None = None
    step: int = 0

    @property
    def session_key(self) -> SessionKey:
        """Key of the conversation, within its tenant."""
        return SessionKey(self.tenant, self.session)

    @property
    def agent_key(self) -> AgentKey:
        """Key of the role, across sessions."""
        return AgentKey(self.tenant, self.workload, self.agent)

    def to_label(self, **plan: float | str | None) -> str:
        """Encode as the JSON string that travels in `vllm_xargs["agentrt"]`, with the call's plan.

        A string, because vLLM refuses nested objects there; ASCII, so that it may also be a header.
        """
        label = (
            f'{{"session":{_quote(self.session)},"agent":{_quote(self.agent)},"workload":{_quote(self.workload)},'
            f'"tenant":{_quote(self.tenant)},"invocation":{_quote(self.invocation)},"step":{self.step}'
        )
        if self.parent is not None:
            label += f',"parent":{_quote(self.parent)}'
        for key, value in plan.items():
            if value is not None:
                label += f",{_quote(key)}:{_scalar(value)}"
        return label + "}"

    @classmethod
    def from_label(cls, label: object) -> "Identity | None":
        """Decode a label; None for anything that is not one (the engine then treats the call as unknown).

        Never raises: labels arrive from any client. Unknown fields are ignored, so that an older engine
        understands a newer client.
        """
        if not isinstance(label, str) or len(label) > MAX_LABEL_CHARS:
            return None
        try:
            raw = json.loads(label)
        except (ValueError, RecursionError):  # deeply nested brackets fit in a label
            return None
        if not isinstance(raw, dict):
            return None
        session, agent = _name(raw.get("session")), _name(raw.get("agent"))
        if session is None or agent is None:
            return None
        step = raw.get("step")
        return cls(
            session=session,
            agent=agent,
            workload=_name(raw.get("workload")) or "default",
            tenant=_name(raw.get("tenant")) or DEFAULT_TENANT,
            invocation=_name(raw.get("invocation")) or "",
            parent=_name(raw.get("parent")),
            step=step if isinstance(step, int) and not isinstance(step, bool) else 0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """An edge: one agent handing to the next.

    `how` tells how it was seen: `call` (a sub-agent or tool agent), `next` (named by a route, a `Command`, a
    `Send` or an unconditional edge), `superstep` (inferred from order alone), `static` (declared, not seen), or
    `entry` (the first agent of a run; `source` is then `START`). `weight` is the share of belief in (0, 1]
    when several sources are possible.
    """

    source: str
    target: str
    how: str = "next"
    weight: float = 1.0


START = "__start__"
END = "__end__"


def _scalar(value: float | str) -> str:
    """A plan's value as JSON; anything but a scalar raises TypeError."""
    if isinstance(value, str):
        return _quote(value)
    if type(value) in (int, float) and isfinite(value):
        return repr(value)
    return json.dumps(value)


def _name(value: object) -> str | None:
    """A usable name, or None."""
    return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARS else None

"""Owner groups: who would miss a cached block.

A block is first owned by the context that computed it, one (session, agent). When others touch it, the owner
becomes what the touchers have in common, so ownership only ever widens along a chain towards its head:

    context(session, agent)     one agent's prompt in one session
    context(session, *)         several agents of one session
    anchor(agent)               several sessions of one agent: system prompt, tools, few-shot
    anchor(*)                   several sessions of several agents
    unknown                     nobody said: plain LRU

Every toucher of a block also touched the blocks before it, so a value that is the largest over a group's touchers
never ranks the head of a chain below its tail. Anchors are split by how many sessions share them (powers of
two): a system prompt shared by a thousand sessions and a question asked twice are not the same thing.
"""

from enum import StrEnum

from agentrt.identity import AgentKey, SessionKey
from agentrt.kv.blocks import FreeGroup


class Kind(StrEnum):
    """What a group is, for people and for `/residency`."""

    ANCHOR = "anchor"
    CONTEXT = "context"
    UNKNOWN = "unknown"


class OwnerGroup(FreeGroup):
    """Blocks with one owner. `resident` counts all of them, free or in use; `free` holds those evictable."""

    __slots__ = (
        "agent",
        "born_s",
        "invocation",
        "kind",
        "members",
        "overridden_until_s",
        "override",
        "resident",
        "retained_until_s",
        "retention",
        "session",
        "sharing",
        "stale",
    )

    def __init__(
        self,
        kind: Kind,
        *,
        agent: AgentKey | None = None,
        session: SessionKey | None = None,
        invocation: str = "",
        sharing: int = 0,
        born_s: float = 0.0,
        value: float = 0.0,
    ) -> None:
        super().__init__(value)
        self.kind = kind
        self.agent = agent
        self.session = session
        self.invocation = invocation
        self.sharing = sharing
        """Anchors: log2 of how many sessions share the blocks."""
        self.born_s = born_s
        self.members: dict[SessionKey, None] = {}
        """Anchors: live sessions that touched it, in order of first touch."""
        self.resident = 0
        self.override: float | None = None
        """A value set from outside (score, release), in force until `overridden_until_s`."""
        self.overridden_until_s = 0.0
        self.retention = 0
        """0-100, from `retain`; in force until `retained_until_s`."""
        self.retained_until_s = 0.0
        self.stale = False
        """The owner came back without these blocks."""

    def __repr__(self) -> str:
        owner = self.agent.agent if self.agent else "*"
        return f"<{self.kind} {self.session.session if self.session else '*'}/{owner} {self.resident} blocks>"


class OwnedBlock:
    """What is remembered of one cached block."""

    __slots__ = ("group", "last_session", "origin", "sharers")

    def __init__(self, group: OwnerGroup, session: SessionKey | None, origin: str) -> None:
        self.group = group
        self.last_session = session
        self.origin = origin
        """The invocation that computed it: its group is that of the last one that used it."""
        self.sharers = 1
        """Sessions that touched it, as far as known."""

"""Which owner groups there are, found by what they belong to."""

from collections.abc import Iterator
from typing import TypeVar

from agentrt.identity import AgentKey, SessionKey
from agentrt.kv.groups import Kind, OwnerGroup

_ContextKey = tuple[SessionKey, AgentKey | None, str]
_AnchorKey = tuple[AgentKey | None, int]
_Groups = dict[OwnerGroup, None]
_Key = TypeVar("_Key")
_ABSENT = object()


class GroupRegistry:
    """Groups by session, by agent, and by the key under which the next blocks of the same owner join them."""

    def __init__(self) -> None:
        self._contexts: dict[_ContextKey, OwnerGroup] = {}
        self._anchors: dict[_AnchorKey, OwnerGroup] = {}
        self._by_session: dict[SessionKey, _Groups] = {}
        self._by_agent: dict[AgentKey | None, _Groups] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_agent.values()))

    def __iter__(self) -> Iterator[OwnerGroup]:
        for groups in self._by_agent.values():
            yield from groups

    def of_session(self, session: SessionKey) -> list[OwnerGroup]:
        """Contexts of a session, and the anchors it touched."""
        return list(self._by_session.get(session, {}))

    def of_agent(self, agent: AgentKey) -> list[OwnerGroup]:
        """Contexts and anchors of an agent."""
        return list(self._by_agent.get(agent, {}))

    def context(self, session: SessionKey, agent: AgentKey | None, invocation: str, now: float) -> OwnerGroup:
        """The context of an agent's invocation in a session, or of several agents (None); made if need be."""
        key = (session, agent, invocation if agent else "")
        group = self._contexts.get(key)
        if group is None:
            group = self._contexts[key] = OwnerGroup(
                Kind.CONTEXT, agent=agent, session=session, invocation=key[2], born_s=now
            )
            self._by_agent.setdefault(agent, {})[group] = None
            self._by_session.setdefault(session, {})[group] = None
        return group

    def anchor(self, agent: AgentKey | None, sharing: int, now: float) -> OwnerGroup:
        """The anchor of an agent, or of several (None), shared this widely; made if need be."""
        group = self._anchors.get((agent, sharing))
        if group is None:
            group = self._anchors[agent, sharing] = OwnerGroup(Kind.ANCHOR, agent=agent, sharing=sharing, born_s=now)
            self._by_agent.setdefault(agent, {})[group] = None
        return group

    def join(self, anchor: OwnerGroup, session: SessionKey) -> None:
        """A session touched an anchor."""
        anchor.members[session] = None
        self._by_session.setdefault(session, {})[anchor] = None

    def leave(self, session: SessionKey) -> None:
        """A session is over: it is no member of any anchor. Its contexts stay."""
        for group in self.of_session(session):
            if group.members.pop(session, _ABSENT) is not _ABSENT:
                _discard(self._by_session, session, group)

    def detach(self, group: OwnerGroup) -> None:
        """Take a group from its key: its blocks stay together, the next ones go to a new group."""
        if group.session is not None:
            key = (group.session, group.agent, group.invocation)
            if self._contexts.get(key) is group:
                del self._contexts[key]
        elif self._anchors.get((group.agent, group.sharing)) is group:
            del self._anchors[group.agent, group.sharing]

    def drop(self, group: OwnerGroup) -> None:
        """Forget a group that owns nothing any more."""
        self.detach(group)
        _discard(self._by_agent, group.agent, group)
        for session in [group.session, *group.members]:
            if session is not None:
                _discard(self._by_session, session, group)
        group.members.clear()


def _discard(index: dict[_Key, _Groups], key: _Key, group: OwnerGroup) -> None:
    groups = index.get(key, {})
    groups.pop(group, None)
    if not groups:
        index.pop(key, None)

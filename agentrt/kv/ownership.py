"""Which group owns which block, and how ownership changes as requests touch blocks.

Rules, in the order they apply to a call of agent `g` in session `s`:

1. A hit block is touched: its owner widens to what its touchers have in common (`groups`).
2. Free blocks left behind in a context of `g` are stale when the call continued that context (it took over more than
   it left): the agent came back without them, so they are the old tail of a prompt that was cut or rewritten.
3. Newly stored blocks belong to context(s, g).

Parallel invocations of one agent in one session have contexts of their own, so that one does not age the other.
"""

from collections.abc import Iterable, Iterator, Sequence

from agentrt.identity import AgentKey, Identity, SessionKey
from agentrt.kv.blocks import Block, FreeGroup
from agentrt.kv.groups import Kind, OwnedBlock, OwnerGroup
from agentrt.kv.registry import GroupRegistry

_Groups = dict[OwnerGroup, None]


class Ownership:
    """Owner groups over a pool of `num_blocks` blocks. Memory is bounded by the pool and the live groups."""

    def __init__(self, num_blocks: int) -> None:
        self.unknown = OwnerGroup(Kind.UNKNOWN)
        self.group_of: list[FreeGroup] = [self.unknown] * num_blocks
        """Per block id; what the free queue orders by."""
        self._blocks: dict[int, OwnedBlock] = {}
        self._registry = GroupRegistry()
        self.of_session = self._registry.of_session
        self.of_agent = self._registry.of_agent

    # ---- the request path ---------------------------------------------------------------------------------

    def touch(self, identity: Identity | None, blocks: Sequence[Block], now: float) -> list[OwnerGroup]:
        """A call hit these blocks, head first (in use, not free). Returns the groups whose value may change."""
        changed: _Groups = {}
        taken: dict[OwnerGroup, int] = {}
        fresh: dict[OwnerGroup, bool] = {}
        settled: set[OwnerGroup] = set()
        for block in blocks:
            owned = self._blocks.get(block.block_id)
            if owned is None:
                owned = self._own(block.block_id, self._home(identity, now), identity)
            group = owned.group
            taken[group] = taken.get(group, 0) + 1
            if group in settled:
                continue
            target = self._widened(owned, identity, now, fresh)
            if target is not group:
                self._move(block.block_id, owned, target)
            elif group.kind is not Kind.ANCHOR or not fresh.get(group, True):
                settled.add(group)  # this caller changes nothing about this group's other blocks either
            changed[target] = None
        if identity is not None:
            changed |= self._age_left_behind(identity, taken, blocks, now)
        return list(changed)

    def store(self, identity: Identity | None, blocks: Iterable[Block], now: float) -> OwnerGroup:
        """A call computed these blocks; returns their group."""
        group = self._home(identity, now)
        for block in blocks:
            if block.block_id not in self._blocks:
                self._own(block.block_id, group, identity)
        return group

    def store_anchor(self, agent: AgentKey, blocks: Iterable[Block], sharing: int, now: float) -> OwnerGroup:
        """A warm-up computed these blocks for an agent's anchor."""
        group = self._registry.anchor(agent, sharing, now)
        for block in blocks:
            if block.block_id not in self._blocks:
                self._own(block.block_id, group, None).sharers = 2**sharing
        return group

    def forget(self, block_id: int) -> None:
        """A block caches nothing any more, or is handed out as new."""
        owned = self._blocks.pop(block_id, None)
        if owned is not None:
            group = owned.group
            group.resident -= 1
            if not group.resident:
                self._drop(group)
        if block_id not in self.group_of[block_id].free:
            self.group_of[block_id] = self.unknown

    def end_session(self, session: SessionKey) -> None:
        """Forget a session's membership in anchors; its blocks keep their (now worthless) group."""
        self._registry.leave(session)

    def give_back(self, group: OwnerGroup, invocation: str, block_ids: Iterable[int], now: float) -> OwnerGroup:
        """Move blocks of a context to that of another invocation of its agent; returns that."""
        assert group.session is not None
        target = self._registry.context(group.session, group.agent, invocation, now)
        for block_id in block_ids:
            self._move(block_id, self._blocks[block_id], target)
        return target

    # ---- looking around -----------------------------------------------------------------------------------

    def groups(self) -> Iterator[OwnerGroup]:
        """Every group that owns a block, and `unknown`."""
        yield self.unknown
        yield from self._registry

    def anchors_of(self, agent: AgentKey) -> list[OwnerGroup]:
        """Anchors of an agent."""
        return [g for g in self.of_agent(agent) if g.kind is Kind.ANCHOR]

    def owner(self, block_id: int) -> OwnerGroup:
        """The group that owns a block."""
        return self._blocks[block_id].group if block_id in self._blocks else self.unknown

    def owned(self) -> Iterable[int]:
        """Ids of all blocks with an owner."""
        return self._blocks

    def origin(self, block_id: int) -> str:
        """The invocation that computed a block; empty where that is not known."""
        return self._blocks[block_id].origin if block_id in self._blocks else ""

    @property
    def num_groups(self) -> int:
        """Groups that own a block."""
        return len(self._registry)

    # ---- how ownership changes ----------------------------------------------------------------------------

    def _widened(
        self, owned: OwnedBlock, identity: Identity | None, now: float, fresh: dict[OwnerGroup, bool]
    ) -> OwnerGroup:
        """The owner after this touch. `fresh` remembers, per group, whether the session is new to it."""
        group = owned.group
        session = identity.session_key if identity else None
        agent = identity.agent_key if identity else None
        if group.kind is Kind.UNKNOWN and identity is None:
            return group
        if group.kind is Kind.CONTEXT and identity is not None and group.session == session:
            if group.agent == agent or group.agent is None:
                return group if group.agent is None else self._home(identity, now)
            return self._registry.context(identity.session_key, None, "", now)
        new_here = fresh.setdefault(group, session is None or session not in group.members)
        if group.kind is not Kind.ANCHOR or (new_here and session != owned.last_session):
            owned.sharers += 1
            owned.last_session = session
        shared_agent = agent if group.kind is Kind.UNKNOWN else group.agent
        if identity is not None and agent != shared_agent:
            shared_agent = None
        anchor = self._registry.anchor(shared_agent, owned.sharers.bit_length() - 1, now)
        if group.kind is not Kind.UNKNOWN:
            anchor.born_s = min(anchor.born_s, group.born_s)
        for member in (group.session, session):
            if member is not None:
                self._registry.join(anchor, member)
        return anchor

    def _age_left_behind(
        self, identity: Identity, taken: dict[OwnerGroup, int], blocks: Sequence[Block], now: float
    ) -> _Groups:
        """Rule 2: what is left of the contexts this call continued becomes stale."""
        changed: _Groups = {}
        for group in self.of_session(identity.session_key):
            if group.kind is not Kind.CONTEXT or group.agent != identity.agent_key or group.stale:
                continue
            if taken.get(group, 0) > len(group.free) > 0:
                group.stale = True
                self._registry.detach(group)
                changed[group] = None
        if changed:  # what was taken over goes on in a group of its own
            for block in blocks:
                owned = self._blocks[block.block_id]
                if owned.group in changed:
                    fresh = self._home(identity, now)
                    self._move(block.block_id, owned, fresh)
                    changed[fresh] = None
        return changed

    def _home(self, identity: Identity | None, now: float) -> OwnerGroup:
        if identity is None:
            return self.unknown
        return self._registry.context(identity.session_key, identity.agent_key, identity.invocation, now)

    # ---- bookkeeping --------------------------------------------------------------------------------------

    def _own(self, block_id: int, group: OwnerGroup, identity: Identity | None) -> OwnedBlock:
        owned = self._blocks[block_id] = OwnedBlock(
            group,
            identity.session_key if identity else None,
            identity.invocation if identity else "",
        )
        self.group_of[block_id] = group
        group.resident += 1
        return owned

    def _move(self, block_id: int, owned: OwnedBlock, group: OwnerGroup) -> None:
        left = owned.group
        owned.group = group
        self.group_of[block_id] = group
        group.resident += 1
        left.resident -= 1
        if not left.resident:
            self._drop(left)

    def _drop(self, group: OwnerGroup) -> None:
        if group is not self.unknown:
            self._registry.drop(group)

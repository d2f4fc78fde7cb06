"""The KV order of one block pool: ownership, value and queue, behind the few calls an engine has to make.

An engine calls, in its own loop (nothing here is thread-safe, nothing here blocks):

    order.take_over(free_blocks)          once: the queue to use instead of its own
    order.call_started(...)               a request was admitted, with its hit blocks
    order.blocks_stored(...)              blocks of a request became full and hashed
    order.blocks_allocated(...)           blocks were handed out as new
    order.block_evicted(...)              a block's hash was dropped
    order.call_preempted(...)             a request gives its blocks back, to be admitted again
    order.call_ended(...)                 a request finished or was aborted, before its blocks are freed
    order.tick()                          every step

A call of unknown identity owns nothing, so an engine without labelled traffic behaves as stock LRU. After a fault the
queue is stock LRU and nothing here does anything any more.
"""

import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrt.identity import AgentKey, Identity, SessionKey
from agentrt.kv.blocks import Block
from agentrt.kv.chains import AnchorChain, AnchorChains
from agentrt.kv.groups import Kind, OwnerGroup
from agentrt.kv.guard import Guard
from agentrt.kv.load import CacheLoad
from agentrt.kv.lookup import residency, shared_head, sharing_of
from agentrt.kv.overrides import lift_overrides
from agentrt.kv.ownership import Ownership
from agentrt.kv.queue import OrderedFreeQueue
from agentrt.kv.sessions import Sessions
from agentrt.kv.value import Valuation

logger = logging.getLogger("agentrt")

REVALUE_PERIOD_S = 1.0
_SILENCE_CACHE_TIMES = 4.0
"""A session silent for this many cache times is over, as far as the cache is concerned."""


@dataclass(slots=True)
class _Call:
    identity: Identity | None
    warms: AgentKey | None = None
    blocks: list[Block] = field(default_factory=list)
    """Of a warm-up: those it found and computed, head first."""


class KVOrder:
    """Order of eviction over `num_blocks` blocks of `block_size_tokens` tokens."""

    def __init__(
        self,
        *,
        num_blocks: int,
        block_size_tokens: int,
        clock: Callable[[], float],
        retain_max_share: float = 0.5,
    ) -> None:
        self.num_blocks = num_blocks
        self.block_size_tokens = block_size_tokens
        self.retain_max_blocks = int(num_blocks * retain_max_share)
        self.clock = clock
        self.ownership = Ownership(num_blocks)
        self.sessions = Sessions()
        self.values = Valuation(self.sessions)
        self.values.unknown_age_s = self._unknown_age_s
        self.queue = OrderedFreeQueue((), self.ownership.group_of)
        self.counters: dict[str, int] = {}
        self._calls: dict[str, _Call] = {}
        self._chains = AnchorChains(block_size_tokens)
        self._next_round_s = 0.0
        self._load = CacheLoad(num_blocks, clock())
        self.guard = Guard(num_blocks)

    def take_over(self, free_blocks: Iterable[Block]) -> OrderedFreeQueue:
        """Build the queue from the engine's free blocks, given in stock order."""
        self.queue = OrderedFreeQueue(free_blocks, self.ownership.group_of)
        return self.queue

    def call_started(
        self,
        call_id: str,
        identity: Identity | None,
        hit_blocks: Sequence[Block],
        prompt_token_ids: Sequence[int] = (),
        *,
        block_hashes: Sequence[Hashable] = (),
        cache_salt: str | None = None,
        warms: AgentKey | None = None,
    ) -> None:
        """A request was admitted and its hit blocks are in use. Harmless when repeated (preemption).

        `block_hashes` are of the prompt's full blocks, for the guard. `warms` marks our own warm-up of an agent's
        anchor: it teaches nothing and counts as no session.
        """
        if not self.queue.ordered:
            return
        now = self.clock()
        first = call_id not in self._calls
        self._calls[call_id] = _Call(identity, warms, list(hit_blocks) if warms else [])
        if warms is not None:
            return
        if block_hashes:
            lookups = (len(prompt_token_ids) - 1) // self.block_size_tokens if first else 0
            self._watch(call_id, block_hashes, len(hit_blocks), lookups)
        changed = self.ownership.touch(identity, hit_blocks, now) if hit_blocks else []
        if identity is None:
            self._revalue(changed, now)
            return
        lift_overrides(self.ownership, self.sessions, identity)
        if first:
            for gone in self.sessions.call_started(call_id, identity, now):
                self.ownership.end_session(gone)
            self.count("labelled_calls")
        self._chains.remember(identity.agent_key, shared_head(self.ownership, hit_blocks), prompt_token_ids, cache_salt)
        self._revalue_session(identity.session_key, now)  # it is in every group that the touch changed

    def blocks_stored(
        self, call_id: str, blocks: Sequence[Block], *, first: int = 0, block_hashes: Sequence[Hashable] = ()
    ) -> None:
        """Blocks of that request became full and hashed: the `first` one of its chain, and those after it."""
        call = self._calls.get(call_id)
        if call is None or not blocks or not self.queue.ordered:
            return
        if block_hashes:
            self.guard.filled(call_id, first, block_hashes)
        now = self.clock()
        if call.warms is not None:
            group = self.ownership.store_anchor(call.warms, blocks, sharing_of(self.ownership, call.warms), now)
            call.blocks += blocks
            chain = self._chains.get(call.warms)
            if chain is not None:
                chain.refresh(call.blocks[: chain.known_blocks])
        elif call.identity is None:
            return  # blocks without a record are `unknown`
        else:
            group = self.ownership.store(call.identity, blocks, now)
        self._revalue([group], now)

    def call_preempted(self, call_id: str) -> None:
        """That request gives its blocks back and waits to be admitted again."""
        self.guard.freed(call_id)

    def call_ended(self, call_id: str) -> None:
        """That request finished or was aborted; its blocks are about to be freed."""
        call = self._calls.pop(call_id, None)
        self.guard.freed(call_id)
        if call is None or call.identity is None or not self.queue.ordered:
            return
        now = self.clock()
        session = call.identity.session_key
        self.sessions.call_ended(session, call_id, now)
        self._revalue_session(session, now)

    def blocks_allocated(self, block_ids: Iterable[int]) -> None:
        """Blocks were handed out as new: whoever owned them does not any more."""
        if not self.queue.ordered:
            return
        ids = list(block_ids)
        for block_id in ids:
            self.ownership.forget(block_id)
        self._load.allocated(len(ids))

    def block_evicted(self, block_id: int) -> None:
        """A block's hash was dropped."""
        if not self.queue.ordered:
            return
        group = self.ownership.owner(block_id)
        self.count(f"evicted_{group.kind}_blocks")
        if group.kind is not Kind.UNKNOWN:
            # Still free: somebody dropped its hash in place, and it must not wait behind what is cached.
            self.queue.uncache(block_id)
        self.ownership.forget(block_id)

    def tick(self) -> None:
        """Cheap; at most once a second it measures the load, forgets silent sessions and re-values every group."""
        now = self.clock()
        if now < self._next_round_s or not self.queue.ordered:
            return
        self._load.round(self.queue.time, now)
        self.values.cache_time_s = self._load.cache_time_s
        self._next_round_s = now + min(REVALUE_PERIOD_S, self.values.cache_time_s / 8)
        for session in self.sessions.expire(now, least_silence_s=_SILENCE_CACHE_TIMES * self.values.cache_time_s):
            self.ownership.end_session(session)
        self.revalue()

    # ---- control ------------------------------------------------------------------------------------------

    def revalue(self, groups: Iterable[OwnerGroup] | None = None) -> None:
        """Bring the queue's keys of these groups up to date; of every group, by default."""
        if groups is None:
            self.values.start_round()
        self._revalue(self.ownership.groups() if groups is None else groups, self.clock())

    def anchor_chain(self, key: AgentKey) -> AnchorChain | None:
        """Tokens of an agent's anchor, or None when no two sessions have shared one."""
        return self._chains.get(key)

    def fault(self, where: str) -> None:
        """A hook failed: plain LRU from here on, counted, logged once."""
        self.queue.fail(where)

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter shown in the status."""
        self.counters[name] = self.counters.get(name, 0) + by

    def status(self) -> dict[str, Any]:
        """The part of `EngineStatus` the order knows; JSON-able."""
        return {
            "order": "agentrt" if self.queue.ordered and self.queue.by_value else "lru",
            "guard": self.guard.status(),
            "block_size_tokens": self.block_size_tokens,
            "total_blocks": self.num_blocks,
            "free_blocks": self.queue.num_free_blocks,
            "cached_blocks": self.queue.num_cached_blocks,
            "groups": self.ownership.num_groups,
            "sessions": len(self.sessions),
            "faults": self.queue.faults,
            "anchors": self._chains.rows(),
            "counters": dict(self.counters),
        }

    def residency(self, *, tenant: str, agent: str | None = None, session: str | None = None) -> list[dict[str, Any]]:
        """Owner groups of a tenant, optionally of one agent or session; nothing once the order has failed."""
        return residency(self.ownership, tenant=tenant, agent=agent, session=session) if self.queue.ordered else []

    def _revalue(self, groups: Iterable[OwnerGroup], now: float) -> None:
        for group in groups:
            self.queue.set_value(group, self.values.value_of(group, now))

    def _watch(self, call_id: str, hashes: Sequence[Hashable], hits: int, lookups: int) -> None:
        """Let the guard compare this request's hits with LRU's, and stand back or take over as it says."""
        self.guard.admitted(call_id, hashes, hits, lookups)
        if self.queue.by_value is self.guard.steps_down:
            self.queue.stand_back(self.guard.steps_down)
            logger.warning("agentrt: guard: %s", self.guard.verdict())

    def _revalue_session(self, session: SessionKey, now: float) -> None:
        """A call of the session started or ended."""
        for group in self.ownership.of_session(session):
            self.queue.set_value(group, self.values.after_call(group, session, now))

    def _unknown_age_s(self) -> float:
        """Seconds since the oldest unclaimed free block was freed."""
        oldest = next(iter(self.ownership.unknown.free.values()), None)
        return 0.0 if oldest is None else self._load.age_s(oldest, self.clock())

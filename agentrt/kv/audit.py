"""The audit: walks a whole pool and proves that queue, ownership and blocks agree.

Costs about a microsecond per block and changes nothing: for tests, and for people who want to know.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from agentrt.kv.groups import OwnerGroup
from agentrt.kv.order import KVOrder

MAX_FINDINGS = 100
"""More of them say nothing more."""


class BlockState(NamedTuple):
    """A block as the engine sees it."""

    block_id: int
    in_use: bool
    cached: bool


def audit(order: KVOrder, blocks: Iterable[BlockState]) -> list[str]:
    """What is wrong, in words; empty when all is well. `blocks` are all that circulate, null blocks apart.

    Names of sessions and agents are left out: they may be another tenant's. After a fault only the queue's own truth
    is looked at: nothing else is kept up.
    """
    states = list(blocks)
    findings = _queue(order, states)
    if order.queue.ordered:
        findings = chain(findings, _index(order, states), _owners(order, states), _groups(order))
    return list(islice(findings, MAX_FINDINGS))


def _queue(order: KVOrder, states: list[BlockState]) -> Iterator[str]:
    """Every free block is in the queue once, and no other."""
    queued = Counter(block.block_id for block in order.queue.by_age())
    for block_id, times in queued.items():
        if times > 1:
            yield f"block {block_id} is queued {times} times"
    for state in states:
        if state.in_use and state.block_id in queued:
            yield f"block {state.block_id} is in use and queued"
        if not state.in_use and state.block_id not in queued:
            yield f"block {state.block_id} is free and not queued"
    for block_id in queued.keys() - {state.block_id for state in states}:
        yield f"block {block_id} is queued and not in the pool"
    if order.queue.num_free_blocks != len(queued):
        yield f"the queue counts {order.queue.num_free_blocks} blocks and holds {len(queued)}"


def _index(order: KVOrder, states: list[BlockState]) -> Iterator[str]:
    """Every free cached block stands in its own group's index, and nowhere else."""
    group_of = order.ownership.group_of
    indexed: Counter[int] = Counter()
    for group in {id(g): g for g in (*order.ownership.groups(), *group_of)}.values():
        for block_id in group.free:
            indexed[block_id] += 1
            if group_of[block_id] is not group:
                yield f"block {block_id} is indexed under a group that it does not belong to"
    for state in states:
        expected = int(state.cached and not state.in_use)
        if not state.in_use and group_of[state.block_id] is order.ownership.unknown:
            continue  # whose hash is dropped in place keeps its place, as in stock LRU
        if indexed[state.block_id] != expected:
            yield f"block {state.block_id} is indexed {indexed[state.block_id]} times, not {expected}"
    yield from _unreachable(order)


def _unreachable(order: KVOrder) -> Iterator[str]:
    """An eviction finds every group's oldest block: the group has an entry not above its true key."""
    if not order.queue.by_value:
        return
    best: dict[int, tuple[float, int]] = {}
    for value, time, group in order.queue.entries():
        best[id(group)] = min(best.get(id(group), (value, time)), (value, time))
    for group in {id(g): g for g in order.ownership.group_of if g.free}.values():
        if best.get(id(group), (math.inf, 0)) > (group.value, next(iter(group.free.values()))):
            yield f"a group has {len(group.free)} free blocks that no eviction finds"


def _owners(order: KVOrder, states: list[BlockState]) -> Iterator[str]:
    """A block has the owner that the queue orders it by, and nobody owns what caches nothing."""
    ownership = order.ownership
    for state in states:
        owner = ownership.owner(state.block_id)
        if ownership.group_of[state.block_id] is not owner:
            yield f"block {state.block_id} is owned by one group ({owner.kind}) and ordered by another"
        if owner is not ownership.unknown and not (state.cached or state.in_use):
            yield f"block {state.block_id} caches nothing and has an owner ({owner.kind})"


def _groups(order: KVOrder) -> Iterator[str]:
    """A group counts its blocks rightly, owns some, and is listed by its agent and its sessions."""
    ownership = order.ownership
    owned: Counter[OwnerGroup] = Counter(ownership.owner(block_id) for block_id in ownership.owned())
    listed = set(ownership.groups())
    for group in owned.keys() - listed:
        yield f"a group ({group.kind}) owns blocks and is not listed"
    for group in listed:
        if group.resident != owned[group]:
            yield f"a group ({group.kind}) counts {group.resident} blocks and owns {owned[group]}"
        if group is not ownership.unknown and not owned[group]:
            yield f"a group ({group.kind}) owns nothing and is listed"
        for session in (group.session, *group.members):
            if session is not None and group not in ownership.of_session(session):
                yield f"a group ({group.kind}) is not listed under a session of its own"

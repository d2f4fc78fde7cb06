"""Branches of one session: when some are abandoned, what they share with the others goes on being worth what it was.

A block belongs to the last invocation of its agent that used it, so the prefix that a branch shares with those before
it is the branch's own by the time it is abandoned. It goes back to the invocation that computed it.
"""

from collections.abc import Iterable

from agentrt.identity import SessionKey
from agentrt.kv.groups import Kind
from agentrt.kv.order import KVOrder


def abandon(order: KVOrder, session: SessionKey, invocations: Iterable[str]) -> bool:
    """These invocations will not go on. False when the session is unknown."""
    left = frozenset(invocations)
    if order.queue.ordered:
        _give_back(order, session, left)
    return order.sessions.abandon(session, left)


def _give_back(order: KVOrder, session: SessionKey, left: frozenset[str]) -> None:
    """Only free blocks move: those in use belong to a call that goes on."""
    for group in order.ownership.of_session(session):
        if group.kind is not Kind.CONTEXT or group.invocation not in left:
            continue
        shared: dict[str, list[int]] = {}
        for block_id in group.free:
            origin = order.ownership.origin(block_id)
            if origin and origin not in left:
                shared.setdefault(origin, []).append(block_id)
        for origin, block_ids in shared.items():
            target = order.ownership.give_back(group, origin, block_ids, order.clock())
            order.queue.regroup(block_ids, group, target)

"""Finding owner groups: by the target of an action, and for people who ask what is resident."""

from collections.abc import Sequence
from typing import Any

from agentrt.identity import AgentKey, SessionKey
from agentrt.kv.blocks import Block
from agentrt.kv.groups import Kind, OwnerGroup
from agentrt.kv.ownership import Ownership


def select(
    ownership: Ownership,
    *,
    tenant: str,
    workload: str | None = None,
    session: str | None = None,
    agent: str | None = None,
    invocation: str | None = None,
) -> list[OwnerGroup]:
    """Groups of a target: one session's contexts, one agent's anchors, or one agent's context in a session."""
    if session is not None:
        found = [g for g in ownership.of_session(SessionKey(tenant, session)) if g.kind is Kind.CONTEXT]
    elif agent is not None:
        found = [g for g in ownership.groups() if g.kind is Kind.ANCHOR and g.agent and g.agent.tenant == tenant]
    else:
        return []
    return [
        g
        for g in found
        if (agent is None or (g.agent is not None and g.agent.agent == agent))
        and (workload is None or g.agent is None or g.agent.workload == workload)
        and (invocation is None or g.invocation == invocation)
    ]


def residency(
    ownership: Ownership, *, tenant: str, agent: str | None = None, session: str | None = None
) -> list[dict[str, Any]]:
    """Groups of a tenant that own a block, optionally of one agent or session; JSON-able `wire.Residency` fields."""
    return [
        _row(group, tenant)
        for group in ownership.groups()
        if group.resident
        and _tenant(group) == tenant
        and (agent is None or (group.agent is not None and group.agent.agent == agent))
        and (session is None or (group.session is not None and group.session.session == session))
    ]


def _tenant(group: OwnerGroup) -> str | None:
    """None for what several tenants share, or nobody claimed: that is nobody's to ask about."""
    if group.session is not None:
        return group.session.tenant
    return group.agent.tenant if group.agent is not None else None


def _row(group: OwnerGroup, tenant: str) -> dict[str, Any]:
    return {
        "kind": str(group.kind),
        "tenant": tenant,
        "workload": group.agent.workload if group.agent else None,
        "agent": group.agent.agent if group.agent else None,
        "session": group.session.session if group.session else None,
        "blocks": group.resident,
        "free_blocks": len(group.free),
        "value": group.value,
    }


def shared_head(ownership: Ownership, hit_blocks: Sequence[Block]) -> Sequence[Block]:
    """The leading hit blocks that several sessions share."""
    for index, block in enumerate(hit_blocks):
        if ownership.owner(block.block_id).kind is not Kind.ANCHOR:
            return hit_blocks[:index]
    return hit_blocks


def sharing_of(ownership: Ownership, agent: AgentKey) -> int:
    """Sharing of an agent's best known anchor, for blocks computed ahead of need."""
    return max((group.sharing for group in ownership.anchors_of(agent)), default=1)

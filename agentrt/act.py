"""Act, the fourth primitive: proposals in, rulings out.

A policy asks; the arbiter decides and says why. `SIGNAL` states a fact to the engine and costs nothing;
the others change something, compete for a token budget by value per cost, and expire. Conflicts on one target
are settled by one order: PROTECT > RELEASE > DEMOTE > WARM.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Any


class ProposalKind(IntEnum):
    """What is asked for; a lower number wins a conflict on the same target."""

    SIGNAL = 0
    PROTECT = 1
    RELEASE = 2
    DEMOTE = 3
    WARM = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What an action is about. Fields left None are not restricted by it."""

    tenant: str = "default"
    workload: str | None = None
    session: str | None = None
    agent: str | None = None
    invocation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One wish of a policy.

    `value` is what it is expected to save, in prompt tokens; `cost_tokens` what it takes from the budget.
    `action_type` is the wire name (`agentrt.kv.release`), `payload` its further fields. `expires_s` is a time
    on the runtime's clock.
    """

    kind: ProposalKind
    action_type: str
    target: Target
    reason: str
    expires_s: float
    value: float = 0.0
    cost_tokens: int = 0
    payload: Mapping[str, Any] = field(default_factory=dict)


class Verdict(StrEnum):
    """What the arbiter decided."""

    GRANTED = "granted"
    EXPIRED = "expired"
    DUPLICATE = "duplicate"
    OUTRANKED = "outranked"
    OVER_BUDGET = "over_budget"


class OutcomeStatus(StrEnum):
    """What the engine did about a granted action (the words of vLLM RFC 51428)."""

    ACCEPTED = "accepted"
    CLIPPED = "clipped"
    DEFERRED = "deferred"
    REJECTED = "rejected"
    MISSING = "missing"
    UNDELIVERED = "undelivered"
    """Said by the client alone: the engine could not be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The engine's answer to one action."""

    action_id: str
    status: OutcomeStatus
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """Who asked, for what, at what cost, what was decided, why, and what came of it."""

    ruling_id: int
    at_s: float
    policy: str
    proposal: Proposal
    verdict: Verdict
    why: str
    outcome: Outcome | None = None

    def with_outcome(self, outcome: Outcome) -> "Ruling":
        """The same ruling, once the engine has answered."""
        return replace(self, outcome=outcome)


class Arbiter:
    """Decides on the proposals of one step. Deterministic, whatever the order of registration."""

    def __init__(self) -> None:
        self._next_id = 0

    def rule(self, proposals: Iterable[tuple[str, Proposal]], *, now: float, budget_tokens: int) -> list[Ruling]:
        """Rule on (policy name, proposal) pairs at time `now`, spending at most `budget_tokens`."""
        asked = list(proposals)
        # Signals are news: each policy's stay in the order in which things happened, and none is a duplicate.
        signals = sorted((p for p in asked if p[1].kind is ProposalKind.SIGNAL), key=lambda entry: entry[0])
        ordered = [*signals, *sorted((p for p in asked if p[1].kind is not ProposalKind.SIGNAL), key=_precedence)]
        rulings: list[Ruling] = []
        settled: dict[Target, Proposal] = {}
        seen: set[tuple[str, Target]] = set()
        for policy, proposal in ordered:
            verdict, why = self._decide(proposal, now, budget_tokens, settled, seen)
            if verdict is Verdict.GRANTED:
                budget_tokens -= proposal.cost_tokens
                if proposal.kind is not ProposalKind.SIGNAL:
                    seen.add((proposal.action_type, proposal.target))
                    settled[proposal.target] = proposal
            rulings.append(
                Ruling(ruling_id=self._next_id, at_s=now, policy=policy, proposal=proposal, verdict=verdict, why=why)
            )
            self._next_id += 1
        return rulings

    @staticmethod
    def _decide(
        proposal: Proposal,
        now: float,
        budget_tokens: int,
        settled: Mapping[Target, Proposal],
        seen: set[tuple[str, Target]],
    ) -> tuple[Verdict, str]:
        if proposal.expires_s <= now:
            return Verdict.EXPIRED, f"expired {now - proposal.expires_s:.3f} s ago"
        if (proposal.action_type, proposal.target) in seen:
            return Verdict.DUPLICATE, "already granted in this step"
        winner = settled.get(proposal.target)
        if winner is not None and winner.kind < proposal.kind:
            return Verdict.OUTRANKED, f"{winner.kind.name} on the same target wins"
        if proposal.cost_tokens > budget_tokens:
            return Verdict.OVER_BUDGET, f"costs {proposal.cost_tokens} tokens, {budget_tokens} left"
        return Verdict.GRANTED, proposal.reason


def _precedence(entry: tuple[str, Proposal]) -> tuple[Any, ...]:
    """By rank of kind, then value per cost; names break ties, so that the order is total."""
    policy, proposal = entry
    worth = proposal.value / max(proposal.cost_tokens, 1)
    target = proposal.target
    return (
        proposal.kind,
        -worth,
        policy,
        proposal.action_type,
        *(part or "" for part in (target.tenant, target.workload, target.session, target.agent, target.invocation)),
    )

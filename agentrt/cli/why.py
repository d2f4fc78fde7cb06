"""Why the figures came out as they did: what agentrt said, what the engine evicted, and who gained."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agentrt.act import OutcomeStatus, Ruling, Verdict
from agentrt.engines.reports import EngineStatus
from agentrt.evaluation.measure import CallRecord, LoadResult
from agentrt.runtime import Runtime

_GAINERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one pass with agentrt left behind."""

    granted: Counter[str] = field(default_factory=Counter)
    """Actions by last part of their type (`run_ended`, `release`): granted, and not refused by the engine."""
    undelivered: int = 0
    evicted_blocks: Counter[str] = field(default_factory=Counter)
    """Cached blocks evicted during the pass, by kind of owner: context, anchor, unknown."""
    order: str = "agentrt"
    faults: Counter[str] = field(default_factory=Counter)
    """Faults of agentrt's own, by place."""

    @classmethod
    def gather(cls, runtime: Runtime, *, before: EngineStatus, after: EngineStatus) -> "Evidence":
        """Read rulings and counters after a pass."""
        return cls(
            granted=Counter(_kind(ruling) for ruling in runtime.rulings if _took_effect(ruling)),
            undelivered=sum(
                ruling.outcome is not None and ruling.outcome.status is OutcomeStatus.UNDELIVERED
                for ruling in runtime.rulings
            ),
            evicted_blocks=_evicted(before.counters, after.counters),
            order=after.order,
            faults=Counter(runtime.stats()["faults"]),
        )

    @classmethod
    def total(cls, parts: Sequence["Evidence"]) -> "Evidence":
        """The evidence of several passes as one."""
        return cls(
            granted=sum((part.granted for part in parts), Counter()),
            undelivered=sum(part.undelivered for part in parts),
            evicted_blocks=sum((part.evicted_blocks for part in parts), Counter()),
            order="lru" if any(part.order == "lru" for part in parts) else "agentrt",
            faults=sum((part.faults for part in parts), Counter()),
        )

    def lines(self) -> list[str]:
        """One or two sentences for people."""
        said = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in self.granted.most_common()) or "nothing"
        lines = [f"agentrt told the engine: {said}."]
        total = self.evicted_blocks.total()
        if total:
            shares = ", ".join(f"{count / total:.0%} {kind}" for kind, count in self.evicted_blocks.most_common())
            lines.append(
                f"The engine evicted {total:,} cached blocks: {shares}. Anchors are the prompts every session shares, "
                "contexts one session's history, unknown blocks nobody's."
            )
        else:
            lines.append("The engine evicted nothing: the pool holds the whole working set, so no order can help.")
        if self.undelivered:
            lines.append(f"{self.undelivered} actions never reached the engine; the graph did not wait for them.")
        if self.order == "lru":
            lines.append("The engine fell back to stock LRU; `agentrt doctor` says why.")
        if self.faults:
            told = ", ".join(f"{count} in {place}" for place, count in self.faults.most_common())
            lines.append(f"Faults of agentrt, which the graph did not notice: {told}; the log has the first of each.")
        return lines


def gain_line(stock: Iterable[LoadResult], ours: Iterable[LoadResult]) -> str | None:
    """Which agents' prompts gained most from it, in points of their hit rate; None when none did."""
    before, after = _hit_rates(stock), _hit_rates(ours)
    gains = {agent: after[agent] - before[agent] for agent in before.keys() & after.keys()}
    best = [agent for agent in sorted(gains, key=lambda agent: (-gains[agent], agent)) if gains[agent] > 0][:_GAINERS]
    if not best:
        return None
    told = ", ".join(f"{agent} {before[agent]:.0%} -> {after[agent]:.0%}" for agent in best)
    return f"Served from cache, by agent: {told}."


def _hit_rates(passes: Iterable[LoadResult]) -> dict[str, float]:
    calls: dict[str, list[CallRecord]] = {}
    for result in passes:
        for call in result.calls:
            if call.prompt_tokens:
                calls.setdefault(call.agent, []).append(call)
    return {
        agent: sum(c.cached_tokens or 0 for c in group) / sum(c.prompt_tokens or 0 for c in group)
        for agent, group in calls.items()
    }


def _kind(ruling: Ruling) -> str:
    return ruling.proposal.action_type.rsplit(".", 1)[-1]


def _took_effect(ruling: Ruling) -> bool:
    refused = {OutcomeStatus.REJECTED, OutcomeStatus.MISSING, OutcomeStatus.UNDELIVERED, OutcomeStatus.DEFERRED}
    return ruling.verdict is Verdict.GRANTED and (ruling.outcome is None or ruling.outcome.status not in refused)


def _evicted(before: Mapping[str, int], after: Mapping[str, int]) -> Counter[str]:
    prefix, suffix = "evicted_", "_blocks"
    return +Counter(
        {
            name.removeprefix(prefix).removesuffix(suffix): count - before.get(name, 0)
            for name, count in after.items()
            if name.startswith(prefix) and name.endswith(suffix)
        }
    )

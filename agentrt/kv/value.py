"""What a group is worth: will its session go on, and will it reach the owner agent while the cache would keep it?

    value(context(s, g)) = P(s goes on | idle time, signals) x reach(current agent of s -> g)
    value(anchor(g))     = 1 - (1 - P(a new session touches it in time)) x (1 - largest context value of its sessions)

"In time" is half the cache's characteristic time, the mean time a block lives under the present load: looking
further ahead rewards what will be evicted anyway. Signals sharpen the first factor: a run that ended, a branch that was
abandoned, an agent that cannot be reached, a tool that is awaited. Without signals, silence is the evidence.

This is the agent-survival score, first version: first-order transitions, one discount. All values are in [0, 1];
above lie retained groups (1 to 2), below lie released ones (-1).
"""

import math
from collections.abc import Callable

from agentrt.identity import AgentKey, SessionKey
from agentrt.kv.groups import Kind, OwnerGroup
from agentrt.kv.sessions import Life, Sessions

RELEASED = -1.0

_STALE_SHARE = 0.02
"""Chance that blocks an agent came back without are used again (policy experiments: fixed value, within 0.2 points)."""

_WAITING_VALUE = 0.98
"""A session that waits on a tool returns to the agent that called it."""

_UNKNOWN_VALUE = 0.3
"""Of a just-freed block nobody claimed: between a context that may go on and one that will not."""

_HORIZON_SHARE = 0.5


class Valuation:
    """The value of any group, from what `sessions` know. Time comes from the caller."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.cache_time_s = 60.0
        """Mean time a block stays cached under the present load."""
        self.unknown_age_s: Callable[[], float] = lambda: 0.0
        """Age of the oldest free block nobody claimed."""

    # ---- valuing ------------------------------------------------------------------------------------------

    def value_of(self, group: OwnerGroup, now: float) -> float:
        """The value of a group at time `now`."""
        if group.retained_until_s > now:
            return 1.0 + group.retention / 100
        if group.override is not None and group.overridden_until_s > now:
            return group.override
        if group.kind is Kind.UNKNOWN:
            return _UNKNOWN_VALUE * math.exp(-self.unknown_age_s() / self.cache_time_s)
        if group.session is not None:
            value = self._context_value(group.session, group.agent, now)
            life = self.sessions.get(group.session)
            if group.stale or (life is not None and group.invocation and group.invocation in life.abandoned):
                value *= _STALE_SHARE
            return value
        kept = max((self._context_value(s, group.agent, now) for s in group.members), default=0.0)
        return 1.0 - (1.0 - self._arrival(group, now)) * (1.0 - kept)

    def start_round(self) -> None:
        """All groups are about to be re-valued: forget memoised predictions."""
        for workload in self.sessions.workloads():
            workload.reach.clear()

    def _context_value(self, session: SessionKey, agent: AgentKey | None, now: float) -> float:
        life = self.sessions.get(session)
        if life is None:
            return 0.0
        going_on = self._goes_on(life, now)
        if going_on <= 0:
            return 0.0
        reach = self._reach(life)
        if agent is None:
            return going_on * max(reach.values(), default=0.0)
        if agent.agent in life.unreachable:
            return 0.0
        value = going_on * reach.get(agent.agent, 0.0)
        if life.agent == agent.agent and life.busy(now):
            value = max(value, _WAITING_VALUE)
        return value

    def _goes_on(self, life: Life, now: float) -> float:
        """P(the session calls again | how long it has been silent)."""
        if life.busy(now):
            return 1.0
        workload, idle_s = life.workload, max(0.0, now - life.idle_since_s)
        if life.ended:
            if not life.resumable:
                return 0.0
            end = 1.0 - min(workload.runs_continued / workload.runs_ended, 0.99)
            survival = workload.returns.survival(idle_s)
        else:
            end = workload.transitions.end_probability(life.agent)
            survival = workload.gaps.survival(idle_s)
        alive = (1.0 - end) * survival
        return alive / (alive + end) if alive > 0 else 0.0

    def _reach(self, life: Life) -> dict[str, float]:
        memo = life.workload.reach
        reach = memo.get(life.agent)
        if reach is None:
            discount = math.exp(-life.workload.step_s / (_HORIZON_SHARE * self.cache_time_s))
            reach = memo[life.agent] = life.workload.transitions.reach(life.agent, discount=discount)
        return reach

    def _arrival(self, group: OwnerGroup, now: float) -> float:
        """P(a session that is new to this anchor touches it within the horizon)."""
        sessions = 2.0**group.sharing
        age_s = max(now - group.born_s, 0.0) + self.cache_time_s / sessions
        return 1.0 - math.exp(-_HORIZON_SHARE * self.cache_time_s * (sessions - 1) / age_s)

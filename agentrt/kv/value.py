"""What a group is worth: will its session go on, and how soon will it call the owner agent again?

    value(context(s, g)) = P(s goes on | silence, signals) x E[exp(-T / tau)], T = seconds until s calls g again
    value(anchor(g))     = 1 - (1 - P(a new session touches it in time)) x (1 - largest context value of its sessions)

tau is half the cache's characteristic time, the mean time a block lives under the present load: looking further ahead
rewards what will be evicted anyway. Signals sharpen the first factor: a run that ended, a branch that was abandoned, an
agent that cannot be reached, a tool that is awaited. Without signals, silence is the evidence.

Values are coarse where the cache outlives many calls of a session: there age already tells live from dead, so that only
clear differences should overrule it, and groups on one level are plain LRU among themselves. Under pressure, where
everything is evicted before it returns and age says nothing, they are exact. On recorded workloads exact values gain
most at 0.4 of the working set and lose to LRU above 1.0; coarse ones do not lose. Ends that are told make them finer.

All values are in [0, 1]; above lie retained groups (1 to 2), below lie released ones (-1).
"""

import math
from collections.abc import Callable

from agentrt.identity import AgentKey, SessionKey
from agentrt.kv.groups import Kind, OwnerGroup
from agentrt.kv.sessions import Life, Sessions, Workload
from agentrt.models.reuse import rung

RELEASED = -1.0

_STALE_SHARE = 0.02
"""Chance that blocks an agent came back without are used again (policy experiments: fixed value, within 0.2 points)."""

_MOST = 0.99
"""No learned value is higher: what people score 1, and what waits on a tool, come after all that is only likely."""

_WAITING_VALUE = 0.995
"""A session that waits on a tool returns to the agent that called it."""

_UNKNOWN_VALUE = 0.3
"""Of a just-freed block nobody claimed: between a context that may go on and one that will not."""

_HORIZON_SHARE = 0.5

_STEPS_GUESSING, _STEPS_TOLD = (3.0, 8.0), (8.0, 16.0)
"""Cache time in steps of a session up to which values are exact, and from which they are coarse: where ends of runs are
guessed from silence, and where they are told."""

_COARSEST = 4.0
"""Factor between the levels of coarse values."""

_STRUCTURE_TRUST = 50.0
"""What transitions and declared edges are worth against role-free experience, in visits."""

_FINEST = 1.05
"""A finer grain than the estimates are good."""


class Valuation:
    """The value of any group, from what `sessions` know. Time comes from the caller."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self._rung = rung(_HORIZON_SHARE * 60.0)
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
        return self._anchor_value(group, kept, now)

    def after_call(self, group: OwnerGroup, session: SessionKey, now: float) -> float:
        """The value of one of this session's groups after its call: O(1) for anchors, whatever their sessions.

        An anchor is raised to what this session makes it worth; what others no longer make it worth is taken back in
        the next round.
        """
        if group.kind is not Kind.ANCHOR or group.overridden_until_s > now or group.retained_until_s > now:
            return self.value_of(group, now)
        return max(group.value, self._anchor_value(group, self._context_value(session, group.agent, now), now))

    def start_round(self) -> None:
        """All groups are about to be re-valued: read the load, forget memoised predictions."""
        self._rung = rung(_HORIZON_SHARE * self.cache_time_s)
        for workload in self.sessions.workloads():
            workload.reach.clear()
            workload.ends.clear()
            workload.grain = self._grain(workload)

    def _context_value(self, session: SessionKey, agent: AgentKey | None, now: float) -> float:
        life = self.sessions.get(session)
        if life is None:
            return 0.0
        going_on = self._goes_on(life, now)
        if going_on <= 0:
            return 0.0
        if agent is None:
            returns = max(self._returns(life, seen) for seen in life.visits.agents)
        elif agent.agent in life.unreachable:
            return 0.0
        else:
            returns = self._returns(life, agent.agent)
        value = self._level(life, going_on * returns)
        if life.tools and (agent is None or agent.agent == life.agent) and life.busy(now):
            value = max(value, _WAITING_VALUE)
        return value

    @staticmethod
    def _level(life: Life, value: float) -> float:
        """The value, rounded up to a power of the grain that suits the present load."""
        return min(Valuation._rounded(life.workload.grain, value), _MOST)

    @staticmethod
    def _rounded(grain: float, value: float) -> float:
        return float(grain ** -math.floor(-math.log(value, grain))) if grain > _FINEST and value > 0 else value

    def _grain(self, workload: Workload) -> float:
        """How coarse values are: 1 under pressure, up to `_COARSEST` where the cache outlives many steps."""
        exact, coarse = _STEPS_TOLD if workload.ends_told > workload.ends_guessed else _STEPS_GUESSING
        steps = max(self.cache_time_s / max(workload.step_s, 1e-6), exact)
        share = math.log(steps / exact) / math.log(coarse / exact)
        return float(_COARSEST ** min(share, 1.0))

    def _returns(self, life: Life, agent: str) -> float:
        """Expected discounted return of the agent's next call, seen from the session's last one."""
        prior = self._reach(life).get(agent, 0.0)
        return life.visits.expected_return(agent, self._rung, prior, _STRUCTURE_TRUST)

    def _goes_on(self, life: Life, now: float) -> float:
        """P(the session calls again | how long it has been silent), relative to the same right after a call."""
        if life.busy(now):
            return 1.0
        workload, idle_s = life.workload, max(0.0, now - life.idle_since_s)
        if life.ended:
            if not life.resumable:
                return 0.0
            end = 1.0 - min(workload.runs_continued / workload.runs_ended, 0.99)
            survival = workload.returns.survival(idle_s)
            return (1.0 - end) * survival / ((1.0 - end) * survival + end)
        # Returns already count sessions that ended right after such a call; only the silence since is news.
        if life.agent not in workload.ends:
            workload.ends[life.agent] = min(workload.transitions.end_probability(life.agent), 0.99)
        end = workload.ends[life.agent]
        survival = workload.gaps.survival(idle_s)
        return survival / ((1.0 - end) * survival + end) if survival > 0 else 0.0

    def _reach(self, life: Life) -> dict[str, float]:
        memo = life.workload.reach
        reach = memo.get(life.agent)
        if reach is None:
            discount = math.exp(-life.workload.step_s / (_HORIZON_SHARE * self.cache_time_s))
            reach = memo[life.agent] = life.workload.transitions.reach(life.agent, discount=discount)
        return reach

    def _anchor_value(self, group: OwnerGroup, kept: float, now: float) -> float:
        workload = self.sessions.workload_of(group.agent)
        value = 1.0 - (1.0 - self._arrival(group, now)) * (1.0 - kept)
        return self._rounded(workload.grain, value) if workload else value

    def _arrival(self, group: OwnerGroup, now: float) -> float:
        """P(a session that is new to this anchor touches it within the horizon)."""
        sessions = 2.0**group.sharing
        age_s = max(now - group.born_s, 0.0) + self.cache_time_s / sessions
        return 1.0 - math.exp(-_HORIZON_SHARE * self.cache_time_s * (sessions - 1) / age_s)

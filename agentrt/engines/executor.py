"""Carries validated actions to a `KVOrder`, and says what came of each.

The same code runs in vLLM's EngineCore process and in the embedded engine. Actions and outcomes are plain dicts,
because they cross a process boundary there. A repeated `message_id` gets the first answer and no second effect.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agentrt.act import OutcomeStatus
from agentrt.engines.wire import MAX_TTL_S
from agentrt.identity import DEFAULT_TENANT, AgentKey, Dispatch, SessionKey
from agentrt.kv.branches import abandon
from agentrt.kv.groups import OwnerGroup
from agentrt.kv.lookup import select
from agentrt.kv.order import KVOrder
from agentrt.kv.value import RELEASED

REMEMBERED_MESSAGES = 4096

_Verdict = tuple[OutcomeStatus, str]
_ACCEPTED: _Verdict = (OutcomeStatus.ACCEPTED, "")


class ActionExecutor:
    """One per pool, in the engine's loop. `load()` gives (running, waiting) requests."""

    def __init__(self, order: KVOrder, *, load: Callable[[], tuple[int, int]]) -> None:
        self._order = order
        self._load = load
        self._answers: OrderedDict[str, list[dict[str, Any]]] = OrderedDict()
        self._handlers: dict[str, Callable[[Mapping[str, Any]], _Verdict]] = {
            "agentrt.kv.score": self._score,
            "agentrt.kv.retain": self._retain,
            "agentrt.kv.release": self._release,
            "agentrt.kv.prefetch": self._prefetch,
            "agentrt.signal.run_ended": self._run_ended,
            "agentrt.signal.branch_abandoned": self._branch_abandoned,
            "agentrt.signal.agent_unreachable": self._agent_unreachable,
            "agentrt.signal.tool_started": self._tool_started,
            "agentrt.signal.tool_ended": self._tool_ended,
            "agentrt.signal.prior": self._prior,
        }

    def execute(self, message_id: str, actions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One outcome per action: `action_id`, `outcome`, `reason`.

        The first answer to an accepted prefetch also carries `prefetch`, the request that the server must now run:
        `token_ids`, `cache_salt`, and `agent` (tenant, workload, agent). Repeated answers do not.
        """
        answered = self._answers.get(message_id)
        if answered is not None:
            return [dict(outcome) for outcome in answered]
        outcomes = [self._one(action) for action in actions]
        self._answers[message_id] = outcomes
        while len(self._answers) > REMEMBERED_MESSAGES:
            self._answers.popitem(last=False)
        return [
            {**outcome, "prefetch": self._chain(action["payload"])}
            if action["action_type"] == "agentrt.kv.prefetch" and outcome["outcome"] == OutcomeStatus.ACCEPTED
            else dict(outcome)
            for action, outcome in zip(actions, outcomes, strict=True)
        ]

    def _one(self, action: Mapping[str, Any]) -> dict[str, Any]:
        kind = action["action_type"]
        handler = self._handlers.get(kind)
        if handler is None:
            status, reason = OutcomeStatus.REJECTED, f"unknown action type {kind}"
        elif not self._order.queue.ordered:
            status, reason = OutcomeStatus.REJECTED, "the engine is on stock LRU"
        else:
            status, reason = handler(action.get("payload") or {})
        self._order.count(f"actions_{status}")
        return {"action_id": action["action_id"], "outcome": str(status), "reason": reason}

    # ---- actions on blocks --------------------------------------------------------------------------------

    def _score(self, payload: Mapping[str, Any]) -> _Verdict:
        groups = self._groups(payload)
        if not groups:
            return self._missing(payload)
        until_s = self._order.clock() + float(payload.get("ttl_s") or 60.0)
        for group in groups:
            group.override, group.overridden_until_s = float(payload["score"]), until_s
        self._order.revalue(groups)
        return _ACCEPTED

    def _retain(self, payload: Mapping[str, Any]) -> _Verdict:
        groups = self._groups(payload)
        if not groups:
            return self._missing(payload)
        now = self._order.clock()
        budget = self._order.retain_max_blocks - sum(
            g.resident for g in self._order.ownership.groups() if g.retained_until_s > now and g not in groups
        )
        kept = []
        # Most valuable first, so that a clipped retention keeps what matters.
        for group in sorted(groups, key=lambda g: g.value, reverse=True):
            if group.resident <= budget:
                budget -= group.resident
                group.retention = int(payload.get("priority", 50))
                group.retained_until_s = now + min(float(payload["ttl_s"]), MAX_TTL_S)
                kept.append(group)
        self._order.revalue(kept)
        if len(kept) == len(groups):
            return _ACCEPTED
        reason = f"retained blocks would exceed {self._order.retain_max_blocks} of {self._order.num_blocks}"
        return (OutcomeStatus.CLIPPED if kept else OutcomeStatus.REJECTED), reason

    def _release(self, payload: Mapping[str, Any]) -> _Verdict:
        # An anchor is shared by definition: only contexts are ever released.
        groups = self._groups(payload) if payload.get("session") else []
        if not groups:
            return self._missing(payload)
        for group in groups:
            group.override, group.overridden_until_s, group.retained_until_s = RELEASED, float("inf"), 0.0
        self._order.revalue(groups)
        self._order.count("released_blocks", sum(group.resident for group in groups))
        return _ACCEPTED

    def _prefetch(self, payload: Mapping[str, Any]) -> _Verdict:
        chain = self._order.anchor_chain(_agent_key(payload))
        if chain is None:
            return self._missing(payload)
        if chain.resident_blocks == chain.known_blocks:
            return OutcomeStatus.ACCEPTED, "already resident"
        running, waiting = self._load()
        if running or waiting:
            return OutcomeStatus.DEFERRED, f"the engine is busy: {running} running, {waiting} waiting"
        return _ACCEPTED

    # ---- signals ------------------------------------------------------------------------------------------

    def _run_ended(self, payload: Mapping[str, Any]) -> _Verdict:
        resumable = bool(payload.get("resumable"))
        known = self._order.sessions.run_ended(_session_key(payload), self._order.clock(), resumable=resumable)
        return self._told(payload, known=known)

    def _branch_abandoned(self, payload: Mapping[str, Any]) -> _Verdict:
        known = abandon(self._order, _session_key(payload), payload["invocations"])
        return self._told(payload, known=known)

    def _agent_unreachable(self, payload: Mapping[str, Any]) -> _Verdict:
        known = self._order.sessions.unreachable(_session_key(payload), payload["agent"])
        return self._told(payload, known=known)

    def _tool_started(self, payload: Mapping[str, Any]) -> _Verdict:
        now, expected_s = self._order.clock(), payload.get("expected_s")
        return self._told(payload, known=self._order.sessions.tool_started(_session_key(payload), now, expected_s))

    def _tool_ended(self, payload: Mapping[str, Any]) -> _Verdict:
        return self._told(payload, known=self._order.sessions.tool_ended(_session_key(payload)))

    def _prior(self, payload: Mapping[str, Any]) -> _Verdict:
        edges = [
            Dispatch(source=e["source"], target=e["target"], weight=e.get("weight", 1.0)) for e in payload["edges"]
        ]
        self._order.sessions.declare(_tenant(payload), payload["workload"], edges)
        return _ACCEPTED

    # ---- inside -------------------------------------------------------------------------------------------

    def _told(self, payload: Mapping[str, Any], *, known: bool) -> _Verdict:
        if not known:
            return self._missing(payload)
        self._order.revalue(self._order.ownership.of_session(_session_key(payload)))
        return _ACCEPTED

    def _groups(self, payload: Mapping[str, Any]) -> list[OwnerGroup]:
        fields = ("workload", "session", "agent", "invocation")
        return select(self._order.ownership, tenant=_tenant(payload), **{name: payload.get(name) for name in fields})

    def _chain(self, payload: Mapping[str, Any]) -> dict[str, Any] | None:
        key = _agent_key(payload)
        chain = self._order.anchor_chain(key)
        if chain is None or chain.resident_blocks == chain.known_blocks:
            return None
        return {"token_ids": list(chain.token_ids), "cache_salt": chain.cache_salt, "agent": list(key)}

    @staticmethod
    def _missing(payload: Mapping[str, Any]) -> _Verdict:
        named = {k: v for k, v in payload.items() if k in {"session", "agent", "invocation"} and v is not None}
        if not named:
            return OutcomeStatus.REJECTED, "name a session or an agent"
        return OutcomeStatus.MISSING, "nothing known of " + ", ".join(f"{k} {v!r}" for k, v in named.items())


def _tenant(payload: Mapping[str, Any]) -> str:
    return payload.get("tenant") or DEFAULT_TENANT


def _session_key(payload: Mapping[str, Any]) -> SessionKey:
    return SessionKey(_tenant(payload), payload["session"])


def _agent_key(payload: Mapping[str, Any]) -> AgentKey:
    return AgentKey(_tenant(payload), payload.get("workload") or "default", payload["agent"])

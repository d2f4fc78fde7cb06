"""Asks the gates about tool calls so that none can hurt, merges their answers, and keeps the account.

Called in the user's threads, many at once, without the loop's lock.
"""

import logging
import threading
from collections.abc import Iterable
from typing import Any, Literal

from agentrt.policy import FAULTS_TO_BENCH, Policy
from agentrt.tools import Answer, Deny, ToolCall, ToolGate, ToolRuling, checked, merge

logger = logging.getLogger("agentrt")

MAX_ACCOUNTS = 1_000
"""Tools by policy and kind; a model may invent tool names, and what is beyond is counted as `other`."""

Accounted = Literal["served", "denied", "asked", "approved", "lost"]
"""`approved`: a human said yes and the tool ran. `lost`: a served result never came and the tool ran."""


class ToolGates:
    """The gates of one runtime, asked in order of name. Falsy when there are none. Thread-safe."""

    def __init__(self, policies: Iterable[Policy] = ()) -> None:
        gates = [policy for policy in policies if isinstance(policy, ToolGate)]
        self._gates: tuple[ToolGate, ...] = tuple(sorted(gates, key=lambda gate: gate.name))
        self._listeners = tuple(gate for gate in self._gates if type(gate).after is not ToolGate.after)
        self._fails_closed = next((gate.name for gate in self._gates if gate.fail_closed), None)
        self._lock = threading.Lock()
        self._faults: dict[str, int] = {}
        self._faults_in_a_row: dict[str, int] = {}
        self._benched: frozenset[str] = frozenset()
        self._accounts: dict[tuple[str, str, Accounted], int] = {}

    def __bool__(self) -> bool:
        return bool(self._gates)

    def ask(self, call: ToolCall) -> ToolRuling | None:
        """The merged answer; None when nobody has an opinion. Never raises."""
        answers: dict[str, Answer] = {}
        for gate in self._gates:
            if gate.name in self._benched:
                continue
            try:
                answer = checked(gate.before(call))
            except Exception as error:
                self._fault(gate, "before", error)
                answer = Deny(f"the {gate.name} policy could not decide") if gate.fail_closed else None
            else:
                self._faults_in_a_row.pop(gate.name, None)
            if answer is not None:
                answers[gate.name] = answer
        return merge(answers)

    @property
    def listen(self) -> bool:
        """Whether any gate wants to hear of results."""
        return bool(self._listeners)

    def tell(self, call: ToolCall, result: object) -> None:
        """Tell every gate of a result that may be reused. Never raises."""
        for gate in self._listeners:
            if gate.name in self._benched:
                continue
            try:
                gate.after(call, result)
            except Exception as error:
                self._fault(gate, "after", error)

    def without_answer(self) -> ToolRuling | None:
        """What holds where the gates could not even be asked: a refusal, if one of them fails closed."""
        if self._fails_closed is None:
            return None
        return ToolRuling(self._fails_closed, Deny(f"the {self._fails_closed} policy could not be asked"))

    def account(self, tool: str, policy: str, what: Accounted) -> None:
        """Count what became of a call that did not simply run."""
        with self._lock:
            key = (tool, policy, what)
            if key not in self._accounts and len(self._accounts) >= MAX_ACCOUNTS:
                key = ("other", policy, what)
            self._accounts[key] = self._accounts.get(key, 0) + 1

    def stats(self) -> dict[str, Any]:
        """Answers by tool, policy and kind; faults by policy; who is benched."""
        answers: dict[str, dict[str, dict[str, int]]] = {}
        with self._lock:
            for (tool, policy, what), count in sorted(self._accounts.items()):
                answers.setdefault(tool, {}).setdefault(policy, {})[what] = count
            return {"answers": answers, "faults": dict(self._faults), "benched": sorted(self._benched)}

    def _fault(self, gate: ToolGate, verb: str, error: Exception) -> None:
        name = gate.name
        with self._lock:
            self._faults[name] = self._faults.get(name, 0) + 1
            in_a_row = self._faults_in_a_row[name] = self._faults_in_a_row.get(name, 0) + 1
            first = self._faults[name] == 1
            bench = in_a_row >= FAULTS_TO_BENCH and not gate.fail_closed and name not in self._benched
            if bench:
                self._benched |= {name}
        if first:
            effect = "the call is refused" if gate.fail_closed and verb == "before" else "its vote is lost"
            logger.error("agentrt: tool gate %r raised in %s; %s (said once)", name, verb, effect, exc_info=error)
        if bench:
            logger.error("agentrt: tool gate %r is benched after %d faults in a row", name, FAULTS_TO_BENCH)

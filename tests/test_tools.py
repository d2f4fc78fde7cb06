"""Tool gates: what they may answer, how answers merge, and that a gate that fails hurts nobody or refuses."""

import itertools
import logging
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrt import Runtime
from agentrt.gates import MAX_ACCOUNTS, ToolGates
from agentrt.identity import Identity
from agentrt.policy import FAULTS_TO_BENCH, Policy
from agentrt.tools import (
    MAX_ARGUMENTS_CHARS,
    Ask,
    Deny,
    Run,
    Serve,
    ToolCall,
    ToolGate,
    ToolRuling,
    arguments_digest,
    merge,
    stronger,
)

CALL = ToolCall(identity=Identity(session="s", agent="a"), tool="t", tool_call_id="1", arguments={})
ANSWERS = {"d": Deny("no"), "a": Ask("may I?", "risky"), "s": Serve("x", "stored"), "r": Run()}


def gate(name="gate", before=lambda _: None, after=lambda *_: None, *, closed=False):
    """A policy that is a gate."""

    class Gate(Policy, ToolGate):
        fail_closed = closed

        def before(self, call):
            return before(call)

        def after(self, call, result):
            after(call, result)

    Gate.name = name
    return Gate()


def boom(*_):
    raise RuntimeError("boom")


@pytest.mark.parametrize("order", list(itertools.permutations(ANSWERS)))
def test_the_strongest_answer_counts_in_any_order(order):
    """Deny beats Ask beats Serve beats Run, whatever the registration order."""
    for strongest in "dasr":
        kept = {name: ANSWERS[name] for name in order if "dasr".index(name) >= "dasr".index(strongest)}
        assert merge(kept) == ToolRuling(strongest, ANSWERS[strongest])


def test_equal_answers_are_settled_by_name():
    """Of two equal answers the first policy by name is named."""
    assert merge({"z": Deny("1"), "b": Deny("2")}) == ToolRuling("b", Deny("2"))
    assert merge({}) is None


def test_two_runtimes_that_watch_one_call():
    """The stronger ruling counts, the first where they are equal, any where only one has one."""
    deny, other, run = ToolRuling("a", Deny("1")), ToolRuling("b", Deny("2")), ToolRuling("c", Run())
    assert stronger(run, deny) is deny
    assert stronger(deny, run) is deny
    assert stronger(deny, other) is deny
    assert stronger(None, run) is run
    assert stronger(run, None) is run
    assert stronger(None, None) is None


def test_only_policies_that_are_gates_are_asked():
    """Gates are found among the policies; without any there is nothing to ask."""
    assert not ToolGates([Policy()])
    gates = ToolGates([Policy(), gate(before=lambda _: Deny("no"))])
    assert gates
    assert gates.ask(CALL) == ToolRuling("gate", Deny("no"))


def test_a_gate_without_an_opinion():
    """None is no answer, and the base class has no opinion."""

    class Silent(Policy, ToolGate):
        name = "silent"

    assert not ToolGates([Silent()]).listen
    gates = ToolGates([Silent(), gate()])
    assert gates.listen
    assert gates.ask(CALL) is None
    gates.tell(CALL, "x")
    assert gates.stats() == {"answers": {}, "faults": {}, "benched": []}


@pytest.mark.parametrize("before", [boom, lambda _: "yes", lambda _: True])
def test_a_gate_that_fails_loses_its_vote(before, caplog):
    """What raises or answers nonsense is counted, logged once, benched after some in a row; others still count."""
    gates = ToolGates([gate("bad", before), gate("good", lambda _: Deny("no"))])
    with caplog.at_level(logging.ERROR, "agentrt"):
        for _ in range(FAULTS_TO_BENCH + 3):
            assert gates.ask(CALL) == ToolRuling("good", Deny("no"))
    assert gates.stats()["faults"] == {"bad": FAULTS_TO_BENCH}
    assert gates.stats()["benched"] == ["bad"]
    assert [record.message.split(";")[0] for record in caplog.records] == [
        "agentrt: tool gate 'bad' raised in before",
        f"agentrt: tool gate 'bad' is benched after {FAULTS_TO_BENCH} faults in a row",
    ]


def test_a_success_excuses_earlier_faults():
    """Only faults in a row bench a gate."""
    turns = itertools.count()
    gates = ToolGates([gate("shaky", lambda call: boom() if next(turns) % 2 else None)])
    for _ in range(50):
        gates.ask(CALL)
    assert gates.stats()["benched"] == []


def test_a_gate_that_must_not_fail_open():
    """A gate that fails closed refuses whenever it raises, for ever."""
    gates = ToolGates([gate("guard", boom, closed=True), gate("memo", lambda _: Serve("x", "stored"))])
    for _ in range(FAULTS_TO_BENCH + 3):
        assert gates.ask(CALL) == ToolRuling("guard", Deny("the guard policy could not decide"))
    assert gates.stats()["benched"] == []
    assert gates.without_answer() == ToolRuling("guard", Deny("the guard policy could not be asked"))
    assert ToolGates([gate()]).without_answer() is None


def test_a_gate_that_fails_to_listen():
    """`after` that raises is a fault like any other, and the others are still told."""
    heard = []
    gates = ToolGates([gate("deaf", after=boom), gate("ears", after=lambda call, result: heard.append(result))])
    for _ in range(FAULTS_TO_BENCH + 1):
        gates.tell(CALL, "x")
    assert heard == ["x"] * (FAULTS_TO_BENCH + 1)
    assert gates.stats()["benched"] == ["deaf"]


def test_gates_under_threads():
    """Faults and accounts of many threads are all counted."""
    gates = ToolGates([gate("guard", boom, closed=True)])

    def work():
        for _ in range(200):
            gates.ask(CALL)
            gates.account("t", "guard", "denied")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gates.stats()["faults"] == {"guard": 1600}
    assert gates.stats()["answers"] == {"t": {"guard": {"denied": 1600}}}


def test_accounts_are_bounded():
    """Invented tool names beyond the bound are counted as `other`."""
    gates = ToolGates()
    for number in range(MAX_ACCOUNTS + 10):
        gates.account(f"t{number}", "p", "denied")
    answers = gates.stats()["answers"]
    assert len(answers) == MAX_ACCOUNTS + 1
    assert answers["other"] == {"p": {"denied": 10}}


def test_a_runtime_has_the_gates_of_its_policies(engine):
    """The runtime finds gates among its policies, and shows their account."""
    with Runtime(engine) as bare, Runtime(engine, [gate(before=lambda _: Deny("no"))]) as runtime:
        assert not bare.tool_gates
        assert runtime.tool_gates.ask(CALL) is not None
        runtime.tool_gates.account("t", "gate", "denied")
        assert runtime.stats()["tools"]["answers"] == {"t": {"gate": {"denied": 1}}}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_equal_arguments_have_equal_digests(arguments):
    """The order of keys does not matter; the tenant does."""
    digest = arguments_digest(arguments, "t1")
    assert digest is not None
    assert len(digest) == 32
    assert digest == arguments_digest(dict(reversed(arguments.items())), "t1")
    assert digest != arguments_digest(arguments, "t2")


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), (0, False), (None, "null"), ("1", 1), ([], {})])
def test_values_that_merely_look_equal(one, other):
    """Arguments that Python takes for equal, or that print alike, have digests of their own."""
    assert arguments_digest({"x": one}, "t") != arguments_digest({"x": other}, "t")


def cyclic():
    arguments = {}
    arguments["x"] = arguments
    return arguments


@pytest.mark.parametrize(
    "arguments",
    [
        None,
        "text",
        [1],
        {1: "x"},
        {"x": {1: 2}},
        {"x": object()},
        {"x": (1, 2)},
        {"x": {1, 2}},
        {"x": float("nan")},
        {"x": float("inf")},
        {"x": 10**5000},
        {"x": "y" * (MAX_ARGUMENTS_CHARS + 1)},
        {"x": list(range(100_000))},
        cyclic(),
    ],
    ids=lambda arguments: type(arguments).__name__,
)
def test_what_is_no_json_has_no_digest(arguments):
    """Anything but a small JSON object has no digest, and raises nothing."""
    assert arguments_digest(arguments, "t") is None


def test_digests_are_the_same_in_every_process():
    """A digest does not depend on the process's hash seed."""
    code = "from agentrt.tools import arguments_digest as d; print(d({'b': 1, 'a': [True, None]}, 't'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == arguments_digest({"a": [True, None], "b": 1}, "t")

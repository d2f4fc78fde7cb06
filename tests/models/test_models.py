import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrt.identity import END, Dispatch
from agentrt.models.gaps import Gaps
from agentrt.models.reuse import TAUS_S, Reuse, Visits, rung
from agentrt.models.transitions import Transitions

steps = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["a", "b", "c", END])), max_size=80)


@given(steps, st.sampled_from("abcx"))
def test_predictions_are_probabilities(seen, source):
    """Whatever was seen, the next step's probabilities are positive and sum to 1."""
    model = Transitions()
    for a, b in seen:
        model.learn_one(a, b)
    prediction = model.predict_one(source)
    assert sum(prediction.values()) == pytest.approx(1.0)
    assert all(p >= 0 for p in prediction.values())


def test_what_was_seen_is_predicted():
    """After ten hand-overs a -> b, b is the most likely next agent."""
    model = Transitions()
    for _ in range(10):
        model.learn_one("a", "b")
    prediction = model.predict_one("a")
    assert max(prediction, key=prediction.get) == "b"
    assert prediction["b"] > 0.8


def test_declared_edges_are_a_prior_that_experience_overrules():
    """Before any call the declared edges are all there is; a hundred calls outweigh them."""
    model = Transitions()
    model.declare([Dispatch(source="a", target="b"), Dispatch(source="a", target="c")])
    assert model.predict_one("a") == {"b": 0.5, "c": 0.5}
    for _ in range(100):
        model.learn_one("a", "c")
    assert model.predict_one("a")["c"] > 0.98


def test_reach_falls_with_distance_and_discount():
    """In a chain a -> b -> c, b is nearer than c, and a smaller discount makes c worth less."""
    model = Transitions()
    for _ in range(50):
        model.learn_one("a", "b")
        model.learn_one("b", "c")
        model.learn_one("c", END)
    near, far = model.reach("a", discount=0.9), model.reach("a", discount=0.3)
    assert near["b"] > near["c"] > far["c"] > 0
    assert near.get("a", 0.0) < 0.1


@given(steps, st.floats(0, 1))
def test_reach_is_bounded(seen, discount):
    """Reach stays within [0, 1] for any history and discount."""
    model = Transitions()
    for a, b in seen:
        model.learn_one(a, b)
    assert all(0 <= p <= 1 for p in model.reach("a", discount=discount).values())


def test_memory_is_bounded():
    """Ten thousand agents leave at most the configured number of rows."""
    model = Transitions(max_agents=32)
    for i in range(10_000):
        model.learn_one(f"agent-{i}", f"agent-{i + 1}")
    assert len(model._rows) <= 32
    assert len(model._called.of) <= 128


@given(st.lists(st.floats(0, 10_000), max_size=50), st.floats(0, 10_000), st.floats(0, 10_000))
def test_survival_is_a_falling_probability(gaps, a, b):
    """P(gap > t) lies in [0, 1] and never rises with t."""
    model = Gaps()
    for gap in gaps:
        model.learn_one(gap)
    early, late = sorted((a, b))
    assert 1 >= model.survival(early) >= model.survival(late) >= 0


def test_survival_follows_what_was_seen():
    """After two hundred gaps of a second, ten seconds of silence mean that nothing more is coming."""
    model = Gaps()
    for _ in range(200):
        model.learn_one(1.0)
    assert model.survival(0.1) > 0.95
    assert model.survival(10.0) < 0.01
    assert 0.7 < model.quantile(0.5) < 1.5


def play(reuse, agents, step_s=1.0, *, ends=True):
    visits = Visits(reuse)
    for i, agent in enumerate(agents):
        visits.called(agent, i * step_s)
    if ends:
        visits.ended()
    return visits


def test_who_is_called_soon_is_worth_more_than_who_is_never_called():
    """After watching plan, code, test, code, test: in the middle, the tester returns and the planner does not."""
    reuse = Reuse()
    for _ in range(30):
        play(reuse, ["plan", "code", "test", "code", "test"])
    now = play(reuse, ["plan", "code", "test", "code"], ends=False)
    patience = rung(10.0)
    assert now.expected_return("test", patience, 0.5) > 0.8
    assert now.expected_return("plan", patience, 0.5) < 0.05


def test_names_that_never_recur_are_judged_by_their_role():
    """Sessions with names of their own still teach: the first speaker of such sessions is not called again."""
    reuse = Reuse()
    for i in range(60):
        play(reuse, [f"{i}-boss", f"{i}-a", f"{i}-b", f"{i}-a", f"{i}-b"])
    now = play(reuse, ["x-boss", "x-a", "x-b", "x-a"], ends=False)
    assert now.expected_return("x-b", rung(10.0), 0.5) > 0.7
    assert now.expected_return("x-boss", rung(10.0), 0.5) < 0.2


def test_patience_decides_what_late_means():
    """A return after ten seconds is worth little to a cache that forgets after one, and much to one of minutes."""
    reuse = Reuse()
    for _ in range(50):
        play(reuse, ["a", "b", "a"], step_s=5.0)
    now = play(reuse, ["a", "b"], ends=False)
    worth = [now.expected_return("a", k, 0.5) for k in range(len(TAUS_S))]
    assert worth == sorted(worth)
    assert worth[rung(1.0)] < 0.1
    assert worth[rung(300.0)] > 0.8


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0.001, 100)), max_size=60),
    st.sampled_from("abcdx"),
    st.floats(0, 1),
)
def test_expected_returns_are_bounded(history, agent, prior):
    """Whatever was seen, the estimate lies in [0, 1]."""
    reuse, now = Reuse(), 0.0
    visits = Visits(reuse)
    for called, gap_s in history:
        now += gap_s
        visits.called(called, now)
    assert all(0 <= visits.expected_return(agent, k, prior) <= 1 for k in range(len(TAUS_S)))


def test_reuse_memory_is_bounded():
    """Ten thousand names in one session and many sessions leave bounded tables."""
    reuse = Reuse(max_keys=100)
    visits = Visits(reuse)
    for i in range(2000):
        visits.called(f"agent-{i}", float(i))
    assert len(reuse._table) <= 100
    assert len(visits.agents) <= 256
    assert len(visits._pending) <= 256
    assert all(len(pending) <= 16 for pending in visits._pending.values())

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrt.identity import END, Dispatch
from agentrt.models.gaps import Gaps
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

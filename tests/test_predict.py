import pytest

from agentrt.predict import Forecast, Pool


def test_nobody_has_an_opinion():
    """Without votes there is no forecast, which is not a forecast of nothing."""
    assert Pool().merge({}) is None


def test_who_was_wrong_counts_for_less():
    """After twenty wrong forecasts a policy's weight is well below that of one that was right."""
    pool = Pool()
    for _ in range(20):
        pool.learn("right", Forecast(probabilities={"a": 1.0}), "a")
        pool.learn("wrong", Forecast(probabilities={"b": 1.0}), "a")
    assert pool.weight("right") > 0.9
    assert pool.weight("wrong") < 0.5
    merged = pool.merge({"right": Forecast(probabilities={"a": 1.0}), "wrong": Forecast(probabilities={"b": 1.0})})
    assert merged.probabilities["a"] > 0.6
    assert sum(merged.probabilities.values()) == pytest.approx(1.0)


def test_times_come_from_the_most_trusted():
    """Seconds are not averaged: the most trusted policy that names one gives it."""
    pool = Pool()
    for _ in range(20):
        pool.learn("wrong", Forecast(probabilities={"b": 1.0}), "a")
    merged = pool.merge(
        {
            "new": Forecast(probabilities={}, next_use_s={"a": 2.0}),
            "wrong": Forecast(probabilities={}, next_use_s={"a": 9.0, "b": 5.0}),
        }
    )
    assert merged.next_use_s == {"a": 2.0, "b": 5.0}

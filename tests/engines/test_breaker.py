"""The breaker leaves a failing engine alone, and finds out when it is back."""

import pytest

from agentrt.engines.breaker import Breaker


@pytest.fixture
def breaker(clock):
    return Breaker(failures=3, reset_s=5.0, clock=clock)


def test_opens_after_failures_in_a_row(breaker):
    """Only failures in a row count, and only the last of them reports the opening."""
    assert [breaker.failed(), breaker.failed(), breaker.succeeded()] == [False, False, False]
    assert [breaker.failed(), breaker.failed(), breaker.failed()] == [False, False, True]
    assert breaker.is_open
    assert not breaker.admit()


def test_half_open_admits_one_call(breaker, clock):
    """After the reset time one call may try; the others wait for its result."""
    for _ in range(3):
        breaker.failed()
    clock.now = 4.9
    assert not breaker.admit()
    clock.now = 5.0
    assert [breaker.admit(), breaker.admit()] == [True, False]


def test_a_failed_try_opens_again(breaker, clock):
    """A failure while half-open starts the reset time anew, without a second report."""
    for _ in range(3):
        breaker.failed()
    clock.now = 5.0
    assert breaker.admit()
    assert breaker.failed() is False
    clock.now = 9.9
    assert not breaker.admit()
    clock.now = 10.0
    assert breaker.admit()


def test_a_successful_try_closes(breaker, clock):
    """One success closes the circuit and reports the reconnection."""
    for _ in range(3):
        breaker.failed()
    clock.now = 5.0
    assert breaker.admit()
    assert breaker.succeeded() is True
    assert not breaker.is_open
    assert [breaker.admit(), breaker.admit()] == [True, True]

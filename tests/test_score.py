import pytest

from agentrt.score import merge


def test_nobody_votes_and_the_engines_order_stands():
    """No votes: no scores."""
    assert merge({}) is None


def test_one_vote_passes_unchanged():
    """A single owner of a decision is not normalised."""
    assert merge({"p": [3.0, 1.0]}) == [3.0, 1.0]


def test_scales_do_not_matter():
    """Votes are compared by rank: a thousand is no louder than a tenth."""
    assert merge({"p": [1000.0, 0.0, 500.0], "q": [0.3, 0.1, 0.2]}) == merge({"p": [3, 1, 2], "q": [30, 10, 20]})


def test_weights_break_a_tie():
    """Opposite votes with equal weights cancel; a heavier one wins."""
    votes = {"p": [1.0, 0.0], "q": [0.0, 1.0]}
    even = merge(votes)
    assert even[0] == even[1]
    heavy = merge(votes, {"p": 2.0, "q": 1.0})
    assert heavy[0] > heavy[1]


@pytest.mark.parametrize("bad", [{"p": [1.0], "q": [1.0, 2.0]}, {"p": [float("nan")]}])
def test_misaligned_or_infinite_votes_are_refused(bad):
    """A vote must give one finite number per item."""
    with pytest.raises(ValueError):
        merge(bad)

from hypothesis import given
from hypothesis import strategies as st

from agentrt.act import Arbiter, Proposal, ProposalKind, Target, Verdict

kinds = st.sampled_from(list(ProposalKind))


def wish(kind=ProposalKind.WARM, agent="a", *, value=1.0, cost=0, expires=100.0, action=None, **payload):
    return Proposal(
        kind=kind,
        action_type=action or f"agentrt.test.{kind.name.lower()}",
        target=Target(agent=agent),
        reason="because",
        value=value,
        cost_tokens=cost,
        expires_s=expires,
        payload=payload,
    )


def verdicts(proposals, *, now=0.0, budget=1000):
    rulings = Arbiter().rule(proposals, now=now, budget_tokens=budget)
    return {(r.policy, r.proposal.kind, r.proposal.target.agent): r.verdict for r in rulings}


def test_protect_beats_release_on_the_same_target():
    """PROTECT > RELEASE > DEMOTE > WARM decides a conflict; other targets are not touched by it."""
    ruled = verdicts(
        [
            ("p", wish(ProposalKind.RELEASE)),
            ("q", wish(ProposalKind.PROTECT)),
            ("r", wish(ProposalKind.RELEASE, "b")),
        ]
    )
    assert ruled[("q", ProposalKind.PROTECT, "a")] is Verdict.GRANTED
    assert ruled[("p", ProposalKind.RELEASE, "a")] is Verdict.OUTRANKED
    assert ruled[("r", ProposalKind.RELEASE, "b")] is Verdict.GRANTED


def test_the_budget_goes_to_the_best_value_per_token():
    """With room for one, the proposal that saves more per token of cost is granted."""
    dear, cheap = wish(agent="dear", value=10, cost=90), wish(agent="cheap", value=9, cost=50)
    ruled = verdicts([("p", dear), ("p", cheap)], budget=100)
    assert ruled[("p", ProposalKind.WARM, "cheap")] is Verdict.GRANTED
    assert ruled[("p", ProposalKind.WARM, "dear")] is Verdict.OVER_BUDGET


def test_expired_and_repeated_wishes_are_dropped_with_a_reason():
    """An old wish is not carried out, nor the same one twice in a step; each ruling says why."""
    rulings = Arbiter().rule(
        [("p", wish(expires=1.0)), ("p", wish(agent="b")), ("q", wish(agent="b"))], now=2.0, budget_tokens=0
    )
    assert [r.verdict for r in rulings] == [Verdict.EXPIRED, Verdict.GRANTED, Verdict.DUPLICATE]
    assert all(r.why for r in rulings)


def test_signals_keep_their_order_and_are_never_duplicates():
    """tool_started, tool_ended, tool_started stays what it is."""
    signals = [("p", wish(ProposalKind.SIGNAL, action=f"agentrt.signal.{n}")) for n in ("start", "end", "start")]
    rulings = Arbiter().rule(signals, now=0.0, budget_tokens=0)
    assert [r.proposal.action_type[-5:] for r in rulings] == ["start", "l.end", "start"]
    assert {r.verdict for r in rulings} == {Verdict.GRANTED}


proposals = st.lists(
    st.tuples(
        st.sampled_from(["p", "q", "r"]),
        st.builds(
            wish,
            kinds.filter(lambda k: k is not ProposalKind.SIGNAL),
            st.sampled_from("abc"),
            value=st.floats(0, 10),
            cost=st.integers(0, 100),
            expires=st.sampled_from([-1.0, 1.0]),
        ),
    ),
    max_size=12,
)


@given(proposals, st.randoms(use_true_random=False), st.integers(0, 200))
def test_registration_order_does_not_matter(asked, rng, budget):
    """The same proposals in any order give the same grants, and never more than the budget."""
    shuffled = list(asked)
    rng.shuffle(shuffled)

    def grants(entries):
        rulings = Arbiter().rule(entries, now=0.0, budget_tokens=budget)
        granted = [r for r in rulings if r.verdict is Verdict.GRANTED]
        assert sum(r.proposal.cost_tokens for r in granted) <= budget
        return sorted(
            (r.policy, r.proposal.action_type, str(r.proposal.target), r.proposal.cost_tokens) for r in granted
        )

    assert grants(asked) == grants(shuffled)

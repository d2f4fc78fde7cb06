import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from agentrt.identity import Identity, SessionKey
from agentrt.kv.guard import LEAST_EVIDENCE, Guard, Mode
from agentrt.kv.shadow import ShadowLRU


@given(
    st.integers(4, 12),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=60),
)
@settings(max_examples=200, deadline=None)
def test_the_shadow_hits_what_stock_lru_hits(pool_of, capacity, prompts):
    """With every block followed, a pool without identities and the shadow hit exactly the same blocks."""
    pool = pool_of(capacity)
    shadow = ShadowLRU(capacity + 1, sample_blocks=capacity + 1)  # these requests have no block that is not full
    for number, (chain, length) in enumerate(prompts):
        prompt = [(chain, i) for i in range(length)]
        expected = shadow.hits(prompt)
        shadow.hold(str(number), prompt)
        shadow.release(str(number))
        assert pool.run(None, prompt) == expected


def test_a_sample_follows_its_share():
    """Of many hashes about the share is followed, and bytes and integers alike."""
    shadow = ShadowLRU(20_000, sample_blocks=2000)
    rng = random.Random(0)
    for hashes in (range(50_000), [rng.randbytes(16) for _ in range(50_000)]):
        places, followed = shadow.sample(hashes)
        assert 0.9 * shadow.share < len(places) / 50_000 < 1.1 * shadow.share
        assert followed == [hashes[place] for place in places]


def test_the_shadow_is_bounded():
    """Whatever passes through, the shadow holds no more than its capacity and what is in use."""
    shadow = ShadowLRU(1000, sample_blocks=100)
    for call in range(200):
        _, blocks = shadow.sample(range(call * 50, call * 50 + 50))
        shadow.hold(str(call), blocks)
        shadow.release(str(call))
        assert len(shadow) <= 100
    shadow.clear()
    assert len(shadow) == 0


def feed(guard, calls, *, hits, shadow_hits):
    """Calls of 100 lookups: the shadow finds `shadow_hits` of them, the cache `hits`."""
    seen = feed.calls = getattr(feed, "calls", 0)
    for number in range(seen, seen + calls):
        blocks = [("old", i) for i in range(shadow_hits)] + [(number, i) for i in range(100 - shadow_hits)]
        guard.admitted(str(number), blocks, hits, 100)
        guard.filled(str(number), hits, blocks[hits:])
        guard.freed(str(number))
    feed.calls = seen + calls


def test_an_order_that_loses_stands_back_and_is_tried_again():
    """A loss above the limit leads to LRU, then to a trial, then, if it loses again, to a longer rest."""
    guard = Guard(1000, sample_blocks=1000)
    rests = []
    for _ in range(3):
        while not guard.steps_down:
            feed(guard, 1, hits=40, shadow_hits=50)
        rest = 0
        while guard.steps_down:
            feed(guard, 1, hits=50, shadow_hits=50)
            rest += 1
        assert guard.mode is Mode.TRIAL
        rests.append(rest)
    assert rests == [300, 600, 1200]
    assert guard.step_downs == 3


def test_a_trial_that_holds_ends_the_matter():
    """An order that no longer loses is trusted again after as long as the guard remembers."""
    guard = Guard(1000, sample_blocks=1000)
    while guard.mode is not Mode.TRIAL:
        feed(guard, 1, hits=40, shadow_hits=50)
    while guard.mode is Mode.TRIAL:
        feed(guard, 1, hits=60, shadow_hits=50)
    assert guard.mode is Mode.ORDER
    status = guard.status()
    assert status["hit_rate"] - status["lru_hit_rate"] > 0.09
    assert status["step_downs"] == 1


def test_noise_is_no_loss():
    """A loss below the limit, or before there is evidence, changes nothing."""
    guard = Guard(1000, sample_blocks=1000)
    feed(guard, LEAST_EVIDENCE // 100 - 2, hits=0, shadow_hits=50)
    assert guard.mode is Mode.ORDER
    calm = Guard(1000, sample_blocks=1000)
    feed(calm, 1000, hits=50, shadow_hits=50)
    assert calm.mode is Mode.ORDER
    assert calm.step_downs == 0


def test_a_misled_order_ends_as_lru(pool_of):
    """Sessions scored high that never return crowd out those that do, until the guard lets LRU decide."""
    pool = pool_of(60)
    hits = Counter()
    for number in range(1500):
        dead = Identity(session=f"dead-{number % 500}-{number // 500}", agent="a")
        pool.run(dead, [(dead.session, i) for i in range(2)])
        for group in pool.order.ownership.of_session(SessionKey("default", dead.session)):
            group.override, group.overridden_until_s = 1.0, float("inf")
            pool.order.revalue([group])
        live = Identity(session=f"live-{number % 3}", agent="b")
        stood_back = not pool.queue.by_value
        hits[stood_back, "hits"] += pool.run(live, [(live.session, i) for i in range(15)])
        hits[stood_back, "lookups"] += 15
    assert pool.order.guard.step_downs >= 1
    before = hits[False, "hits"] / hits[False, "lookups"]
    after = hits[True, "hits"] / hits[True, "lookups"]
    assert after > before + 0.5

"""What the server says does not depend on which blocks are kept."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentrt.identity import Identity

pytestmark = pytest.mark.vllm

SESSIONS, TURNS, PARALLEL = 8, 11, 4
AGENTS = ("planner", "coder", "reviewer")
ACTIONS = (
    ("agentrt.kv.score", {"score": 0.1}),
    ("agentrt.kv.score", {"score": 0.9}),
    ("agentrt.kv.retain", {"ttl_s": 1.0, "priority": 80}),
    ("agentrt.kv.release", {}),
    ("agentrt.signal.run_ended", {"resumable": True}),
    ("agentrt.signal.tool_started", {"tool": "grep"}),
    ("agentrt.signal.tool_ended", {"tool": "grep"}),
    ("agentrt.kv.prefetch", {"agent": "planner"}),
)


def converse(server, session, *, act=False):
    """One session of several agents that build on each other's answers; returns (token ids, cached tokens) per call."""
    rng, chance = random.Random(session), random.Random(1000 + session)
    heads = {agent: random.Random(agent).choices(range(10, 1500), k=160) for agent in AGENTS}
    history = rng.choices(range(10, 1500), k=150 + 40 * session)
    calls = []
    for turn in range(TURNS):
        agent = rng.choice(AGENTS)
        label = Identity(session=f"s{session}", agent=agent, step=turn).to_label()
        answer = server.complete(heads[agent] + history, max_tokens=12, label=label)
        calls.append((answer["token_ids"], answer["cached_tokens"]))
        history += answer["token_ids"] + rng.choices(range(10, 1500), k=30)
        if act and chance.random() < 0.5:
            overrule(server, chance)
    return calls


def overrule(server, chance):
    """One random action on a random session."""
    action_type, payload = chance.choice(ACTIONS)
    target = {} if action_type.endswith("prefetch") else {"session": f"s{chance.randrange(SESSIONS)}"}
    message = {
        "protocol_version": "1",
        "message_id": f"m{chance.random()}",
        "actions": [{"action_id": "a", "action_type": action_type, "payload": {**payload, **target}}],
    }
    (outcome,) = server.control("actions", message)["outcomes"]
    assert outcome["outcome"] in {"accepted", "missing", "deferred", "clipped", "rejected"}


def test_outputs_equal_those_without_prefix_caching(plugin_server, reference_server):
    """88 answers at temperature 0, from parallel sessions under pressure and random actions, equal those recomputed."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        ours = list(pool.map(lambda session: converse(plugin_server, session, act=True), range(SESSIONS)))
        recomputed = list(pool.map(lambda session: converse(reference_server, session), range(SESSIONS)))
    for session in range(SESSIONS):
        for turn in range(TURNS):
            assert ours[session][turn][0] == recomputed[session][turn][0], f"session {session}, turn {turn}"
    cached = sum(tokens for session in ours for _, tokens in session)
    status = plugin_server.control("status")
    evicted = sum(n for name, n in status["counters"].items() if name.startswith("evicted_"))
    assert cached > 0
    assert evicted > 0, "without pressure nothing is tested"
    assert (status["order"], status["faults"]) == ("agentrt", 0)

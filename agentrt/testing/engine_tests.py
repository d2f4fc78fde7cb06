"""`EngineTests`: what every engine promises, checked over its own HTTP server and its own `Engine`.

Subclass it, provide a fixture named `engine` (in the class, the module or a conftest; any scope), and collect. Checks
are strict about what happens and lenient about when: they wait for a state, with a deadline, and never for a time.
While they run the engine must have no other traffic, since most of them are about which blocks are evicted first.
"""

from collections.abc import Iterator

import pytest

from agentrt.act import OutcomeStatus
from agentrt.engines.base import Engine
from agentrt.engines.wire import PAYLOADS, PROTOCOL_VERSION
from agentrt.testing.action_checks import ActionChecks
from agentrt.testing.message_checks import MessageChecks
from agentrt.testing.traffic import Complete, HTTPCompletions, Traffic, eventually


class EngineTests(ActionChecks, MessageChecks):
    """Subclass this."""

    @pytest.fixture
    def complete(self, engine: Engine) -> Iterator[Complete]:
        """How a completion is sent. Override where `/v1/completions` is not the way."""
        client = HTTPCompletions(engine.base_url, api_key=self.api_key)
        yield client
        client.close()

    @pytest.fixture
    def traffic(self, engine: Engine, complete: Complete) -> Iterator[Traffic]:
        """Fresh names and prompts, on a pool with no block uncached."""
        traffic = Traffic(engine, complete)
        traffic.fill()
        yield traffic
        traffic.clean_up()
        audit = engine.audit()
        assert audit.findings == []
        assert audit.blocks > 0

    # ---- what it says of itself ---------------------------------------------------------------------------

    def test_capabilities_are_well_formed(self, engine: Engine) -> None:
        """Capabilities name our protocol version, every known action, a block size and a pool."""
        capabilities = engine.capabilities()
        assert capabilities.protocol_version == PROTOCOL_VERSION
        assert (capabilities.order, capabilities.degraded) == ("agentrt", [])
        assert set(PAYLOADS) <= set(capabilities.actions)
        assert capabilities.block_size_tokens >= 1
        assert capabilities.num_blocks >= 32, "the checks need a pool of at least 32 blocks"

    def test_status_adds_up(self, engine: Engine, traffic: Traffic) -> None:
        """Cached blocks are free ones, free blocks are some of all; when idle nothing runs and all are free."""
        traffic.cached(traffic.prompt(3), traffic.identity())
        eventually(lambda: (engine.status().running, engine.status().waiting) == (0, 0))
        status = engine.status()
        assert 0 < status.cached_blocks <= status.free_blocks <= status.total_blocks
        # vLLM keeps one null block out of circulation.
        eventually(lambda: engine.status().free_blocks >= engine.status().total_blocks - 1)
        assert status.faults == 0

    # ---- the cache ----------------------------------------------------------------------------------------

    def test_a_repeated_prompt_is_served_from_the_cache(self, traffic: Traffic) -> None:
        """All full blocks of a prompt are found again; of a fresh prompt none."""
        prompt = traffic.prompt(4)
        assert traffic.cached(prompt) == 0
        assert traffic.cached(prompt) == 4 * traffic.block_size

    def test_at_least_one_token_is_computed(self, traffic: Traffic) -> None:
        """A prompt that ends with a block is not served from the cache to its last token."""
        prompt = traffic.tokens(4)
        traffic.cached(prompt)
        assert traffic.cached(prompt) == 3 * traffic.block_size

    def test_unlabelled_traffic_is_lru(self, traffic: Traffic) -> None:
        """Without identities the block used longest ago goes first, as in a stock engine."""
        quarter = traffic.num_blocks // 4
        used_again, used_once = traffic.prompt(quarter), traffic.prompt(quarter)
        for prompt in (used_again, used_once, used_again):
            traffic.cached(prompt)
        # Half of the pool is older than both, so this reaches halfway into the one used once.
        traffic.flood(traffic.num_blocks - 2 * quarter + quarter // 2)
        assert traffic.cached(used_again) == quarter * traffic.block_size
        assert traffic.cached(used_once) < quarter * traffic.block_size

    def test_the_tail_of_a_chain_goes_before_its_head(self, traffic: Traffic) -> None:
        """What is left of a prompt under pressure is its beginning, which is the part that can be used."""
        half = traffic.num_blocks // 2
        prompt = traffic.prompt(half)
        traffic.cached(prompt)
        traffic.flood(traffic.num_blocks - half + half // 2)
        assert 0 < traffic.cached(prompt) < half * traffic.block_size

    # ---- whose blocks they are ----------------------------------------------------------------------------

    def test_a_call_makes_its_session_resident(self, engine: Engine, traffic: Traffic) -> None:
        """After a call its blocks are the caller's, by session and by agent, and by no other tenant."""
        caller = traffic.identity()
        traffic.cached(traffic.prompt(5), caller)
        by_session = engine.residency(session=caller.session)
        assert [(g.kind, g.agent, g.session, g.tenant, g.workload) for g in by_session] == [
            ("context", caller.agent, caller.session, caller.tenant, caller.workload)
        ]
        assert by_session[0].blocks == 5
        assert engine.residency(agent=caller.agent) == by_session
        assert engine.residency(session=caller.session, tenant="another") == []

    def test_a_head_shared_by_two_sessions_becomes_an_anchor(self, engine: Engine, traffic: Traffic) -> None:
        """Blocks that a second session touches belong to the agent, and are its tenant's anchor, nobody else's."""
        agent, head = traffic.name("agent"), traffic.tokens(3)
        for _ in range(2):
            traffic.cached(traffic.prompt(5, head=head), traffic.identity(agent=agent))
        assert traffic.blocks_of(agent=agent, kind="anchor") == 3
        [anchor] = [a for a in engine.status().anchors if a.agent == agent]
        assert (anchor.known_blocks, anchor.resident_blocks) == (3, 3)
        assert agent not in {a.agent for a in engine.status(tenant="another").anchors}

    def test_releasing_one_session_leaves_the_shared_head(self, traffic: Traffic) -> None:
        """A release gives up what is the session's own, never what another session uses too."""
        agent, head = traffic.name("agent"), traffic.tokens(3)
        callers = [traffic.identity(agent=agent) for _ in range(2)]
        prompts = [traffic.prompt(5, head=head) for _ in callers]
        for prompt, caller in zip(prompts, callers, strict=True):
            traffic.cached(prompt, caller)
            traffic.keep(caller)
        assert traffic.act("agentrt.kv.release", session=callers[0].session).status is OutcomeStatus.ACCEPTED
        traffic.flood(3)
        assert traffic.cached(prompts[1], callers[1]) == 5 * traffic.block_size
        assert traffic.cached(prompts[0], callers[0]) == 3 * traffic.block_size

"""Checks of what actions do to the order of eviction; part of `EngineTests`."""

from agentrt.act import Outcome, OutcomeStatus
from agentrt.testing.traffic import Complete, Traffic, eventually

TTL_S = 600.0


class ActionChecks:
    """Needs the fixtures of `EngineTests`."""

    def test_released_blocks_go_first(self, traffic: Traffic) -> None:
        """Under pressure a released session is evicted before blocks that were used longer ago."""
        self._expect_first_victim(traffic, "agentrt.kv.release")

    def test_a_session_whose_run_ended_goes_first(self, traffic: Traffic) -> None:
        """A run that ended for good is evicted before blocks that were used longer ago."""
        self._expect_first_victim(traffic, "agentrt.signal.run_ended")

    def test_a_score_reorders_sessions(self, traffic: Traffic) -> None:
        """Of two sessions the one scored lower goes first, though it was used last."""
        kept, dropped = traffic.identity(), traffic.identity()
        prompts = {caller: traffic.prompt(4) for caller in (kept, dropped)}
        for caller, score in ((kept, 1.0), (dropped, 0.0)):
            traffic.cached(prompts[caller], caller)
            outcome = traffic.act("agentrt.kv.score", session=caller.session, score=score)
            assert outcome.status is OutcomeStatus.ACCEPTED
        traffic.flood(5)  # one block more: the last prompt left one uncached, which goes first
        assert traffic.cached(prompts[kept], kept) == 4 * traffic.block_size
        assert traffic.cached(prompts[dropped], dropped) == 0

    def test_retained_blocks_outlive_pressure(self, traffic: Traffic) -> None:
        """Retained blocks survive traffic of twice the pool, which a stock LRU cache would not let them."""
        caller, prompt, control = traffic.identity(), traffic.prompt(4), traffic.prompt(4)
        traffic.cached(control)
        traffic.cached(prompt, caller)
        traffic.act("agentrt.signal.run_ended", session=caller.session)
        outcome = traffic.act("agentrt.kv.retain", session=caller.session, ttl_s=TTL_S)
        assert outcome.status is OutcomeStatus.ACCEPTED
        traffic.flood(2 * traffic.num_blocks)
        assert traffic.cached(control) == 0
        assert traffic.cached(prompt, caller) == 4 * traffic.block_size

    def test_a_retention_ends_with_its_ttl(self, traffic: Traffic) -> None:
        """Blocks of an ended run that were retained for a moment are evicted after it."""
        caller = traffic.identity()
        traffic.cached(traffic.prompt(4), caller)
        traffic.act("agentrt.signal.run_ended", session=caller.session)
        outcome = traffic.act("agentrt.kv.retain", session=caller.session, ttl_s=0.05)
        assert outcome.status is OutcomeStatus.ACCEPTED

        def evicted() -> bool:
            traffic.flood(traffic.num_blocks)
            return traffic.blocks_of(session=caller.session) == 0

        eventually(evicted, why="retained blocks outlived their ttl")

    def test_retention_has_a_budget(self, traffic: Traffic) -> None:
        """Not all of the pool can be retained; what goes beyond is clipped or rejected, with the reason."""
        outcomes = self._retain_everything(traffic)
        assert OutcomeStatus.ACCEPTED in {outcome.status for outcome in outcomes}
        refused = [o for o in outcomes if o.status in {OutcomeStatus.CLIPPED, OutcomeStatus.REJECTED}]
        assert refused
        assert all(outcome.reason for outcome in refused)

    def test_retention_never_stalls_a_request(self, traffic: Traffic, complete: Complete) -> None:
        """With all the budget retained a request of almost the whole pool is served all the same."""
        self._retain_everything(traffic)
        longest = getattr(complete, "max_model_len", None) or traffic.num_blocks * traffic.block_size
        blocks = min(traffic.num_blocks - 2, longest // traffic.block_size - 1)
        traffic.cached(traffic.prompt(blocks))
        traffic.flood(traffic.num_blocks)

    def test_a_cold_anchor_can_be_prefetched(self, traffic: Traffic) -> None:
        """On an idle engine a prefetch computes an agent's anchor before its next session asks for it."""
        agent, head = traffic.name("agent"), traffic.tokens(3)
        for _ in range(2):
            traffic.cached(traffic.prompt(4, head=head), traffic.identity(agent=agent))
        traffic.act("agentrt.kv.score", agent=agent, workload=traffic.workload, score=0.0)
        traffic.fill()
        assert traffic.blocks_of(agent=agent, kind="anchor") == 0
        assert (
            traffic.act("agentrt.kv.prefetch", agent=agent, workload=traffic.workload).status is OutcomeStatus.ACCEPTED
        )
        eventually(lambda: traffic.blocks_of(agent=agent, kind="anchor") == 3, why="the anchor was not computed")
        again = traffic.act("agentrt.kv.prefetch", agent=agent, workload=traffic.workload)
        assert again.reason == "already resident", "the engine must notice its own warm-up"
        assert traffic.cached(traffic.prompt(4, head=head), traffic.identity(agent=agent)) == 3 * traffic.block_size

    # ---- inside -------------------------------------------------------------------------------------------

    @staticmethod
    def _expect_first_victim(traffic: Traffic, action_type: str) -> None:
        kept, dropped = traffic.identity(), traffic.identity()
        prompts = {caller: traffic.prompt(4) for caller in (kept, dropped)}
        traffic.cached(prompts[kept], kept)
        traffic.keep(kept)
        traffic.cached(prompts[dropped], dropped)
        assert traffic.act(action_type, session=dropped.session).status is OutcomeStatus.ACCEPTED
        traffic.flood(5)  # one block more: the last prompt left one uncached, which goes first
        assert traffic.blocks_of(session=dropped.session) == 0
        assert traffic.cached(prompts[kept], kept) == 4 * traffic.block_size
        assert traffic.cached(prompts[dropped], dropped) == 0

    @staticmethod
    def _retain_everything(traffic: Traffic) -> list[Outcome]:
        """Ask to retain sessions that together hold all of the pool."""
        outcomes = []
        for _ in range(8):
            caller = traffic.identity()
            traffic.cached(traffic.prompt(traffic.num_blocks // 8 - 1), caller)
            outcomes.append(traffic.act("agentrt.kv.retain", session=caller.session, ttl_s=TTL_S))
        return outcomes

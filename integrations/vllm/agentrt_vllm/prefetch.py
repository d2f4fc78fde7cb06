"""Prefetch: an agent's anchor computed ahead of need, by a request of one token through vLLM's own front door."""

import asyncio
import logging
from typing import Any
from uuid import uuid4

from vllm import SamplingParams

from agentrt.engines.wire import LABEL_KEY
from agentrt.identity import AgentKey, Identity
from agentrt_vllm.hooks import PREFETCH_ID

logger = logging.getLogger("agentrt")

LOWEST_PRIORITY = 1_000_000
"""vLLM takes smaller numbers first; without `--scheduling-policy priority` it ignores them."""


class Prefetcher:
    """Runs accepted prefetches in the background of the API server, one at a time per agent."""

    def __init__(self, engine_client: Any) -> None:
        self._client = engine_client
        self._running: dict[AgentKey, asyncio.Task[None]] = {}
        self.counters = {"prefetches": 0, "prefetched_tokens": 0, "prefetches_failed": 0}

    def start(self, prefetch: dict[str, Any]) -> None:
        """Begin one; `prefetch` is what the executor answered: token_ids, cache_salt, agent."""
        agent = AgentKey(*prefetch["agent"])
        if agent in self._running:
            return
        self._running[agent] = asyncio.create_task(
            self._run(agent, prefetch["token_ids"], prefetch["cache_salt"]), name=f"{PREFETCH_ID}{agent.agent}"
        )

    async def close(self) -> None:
        """Cancel what is running; vLLM aborts the requests."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, agent: AgentKey, token_ids: list[int], cache_salt: str | None) -> None:
        try:
            self.counters["prefetches"] += 1
            await self._generate(agent, token_ids, cache_salt)
            self.counters["prefetched_tokens"] += len(token_ids)
        except Exception:
            if not self.counters["prefetches_failed"]:
                logger.exception("agentrt: a prefetch failed; later ones are only counted")
            self.counters["prefetches_failed"] += 1
        finally:
            self._running.pop(agent, None)

    async def _generate(self, agent: AgentKey, token_ids: list[int], cache_salt: str | None) -> None:
        # The session names nobody: by the request's id the hooks know that this call warms the agent's anchor.
        caller = Identity(tenant=agent.tenant, workload=agent.workload, agent=agent.agent, session="prefetch")
        prompt: dict[str, Any] = {"prompt_token_ids": token_ids}
        if cache_salt is not None:
            prompt["cache_salt"] = cache_salt
        params = SamplingParams(
            max_tokens=1, temperature=0.0, detokenize=False, extra_args={LABEL_KEY: caller.to_label()}
        )
        request_id = f"{PREFETCH_ID}{uuid4().hex}"
        async for _ in self._client.generate(prompt, params, request_id, priority=LOWEST_PRIORITY):
            pass

"""The API server's end: `/v1/agentrt` on vLLM's own app, answered by the EngineCore process.

Under `/v1`, so that vLLM's `--api-key` guards it. With several API servers each has these routes, and all of them reach
the one engine.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from agentrt.config import Settings
from agentrt.engines.reports import AuditReply, Capabilities, EngineStatus, ResidencyReply
from agentrt.engines.routes import control_routes
from agentrt.engines.wire import PROTOCOL_VERSION, ActionOutcome
from agentrt_vllm.prefetch import Prefetcher
from agentrt_vllm.seams import vllm_version

logger = logging.getLogger("agentrt")


class AgentRTEndpoint:
    """vLLM's `EndpointPlugin`. With settings None (disabled) it adds nothing."""

    name = "agentrt"
    required_tasks = ("generate",)

    def __init__(self, settings: Settings | None) -> None:
        self._settings = settings
        self._backend: EngineCoreBackend | None = None

    def attach_router(self, app: Any) -> None:
        """Add the routes, and the end of running prefetches to the app's shutdown. Never raises."""
        if self._settings is None:
            return
        try:
            app.router.routes.extend(control_routes(self._answering, self._settings))
            self._close_with(app)
        except Exception:
            logger.exception("agentrt: /v1/agentrt could not be added to this vLLM")

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:  # noqa: ARG002 - vLLM's contract
        """Keep the way to the engine."""
        if engine_client is not None:
            self._backend = EngineCoreBackend(engine_client)

    def _answering(self) -> "EngineCoreBackend":
        if self._backend is None:
            raise RuntimeError("the server is still starting")
        return self._backend

    def _close_with(self, app: Any) -> None:
        vllm_lifespan = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(app: Any) -> AsyncIterator[Any]:
            async with vllm_lifespan(app) as state:
                yield state
                if self._backend is not None:
                    await self._backend.close()

        app.router.lifespan_context = lifespan


class EngineCoreBackend:
    """`ControlBackend` over EngineCore utility calls; each waits for the engine's running step."""

    def __init__(self, engine_client: Any) -> None:
        self._client = engine_client
        self._prefetcher = Prefetcher(engine_client)

    async def capabilities(self) -> Capabilities:
        """What the plugin can do here; stock LRU where its engine side is absent."""
        try:
            answer = Capabilities.model_validate(await self._call("capabilities"))
        except Exception as error:
            if self._client.errored:
                raise
            return self._without_engine_side(error)
        ranks = self._client.vllm_config.parallel_config.data_parallel_size
        if ranks > 1:
            answer.degraded.append(f"{ranks} data-parallel engines: status and residency are of the first")
        return answer

    async def status(self) -> EngineStatus:
        """How the engine stands, with this server's prefetches among the counters."""
        status = EngineStatus.model_validate(await self._call("status"))
        status.counters.update(self._prefetcher.counters)
        return status

    async def residency(self, *, tenant: str, agent: str | None, session: str | None) -> ResidencyReply:
        """Resident blocks by owner group."""
        query = {"tenant": tenant, "agent": agent, "session": session}
        return ResidencyReply.model_validate(await self._call("residency", query))

    async def audit(self) -> AuditReply:
        """Whether queue, ownership and blocks agree, between two engine steps."""
        return AuditReply.model_validate(await self._call("audit"))

    async def execute(self, message_id: str, actions: list[dict[str, Any]]) -> list[ActionOutcome]:
        """Carry out actions; accepted prefetches start in the background."""
        answer = await self._call("execute", {"message_id": message_id, "actions": actions})
        outcomes = []
        for outcome in answer["outcomes"]:
            prefetch = outcome.pop("prefetch", None)
            if prefetch is not None:
                self._prefetcher.start(prefetch)
            outcomes.append(ActionOutcome.model_validate(outcome))
        return outcomes

    async def close(self) -> None:
        """Cancel running prefetches."""
        await self._prefetcher.close()

    async def _call(self, op: str, payload: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask every data-parallel engine; the answer is the first one's."""
        core = self._client.engine_core
        if hasattr(core, "call_utility_all_async"):
            answers = await core.call_utility_all_async("agentrt_call", op, payload or {})
        else:
            answers = [await core.call_utility_async("agentrt_call", op, payload or {})]
        first: dict[str, Any] = answers[0]
        return first

    def _without_engine_side(self, error: Exception) -> Capabilities:
        cache = self._client.vllm_config.cache_config
        return Capabilities(
            protocol_version=PROTOCOL_VERSION,
            engine="vllm",
            engine_version=vllm_version(),
            agentrt_version=version("agentrt"),
            order="lru",
            degraded=[f"the plugin is absent in the engine's process, stock LRU stays: {error}"],
            block_size_tokens=cache.block_size,
            num_blocks=(cache.num_gpu_blocks or 1) - 1,
        )

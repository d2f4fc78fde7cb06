"""The embedded engine: an OpenAI-compatible server in a thread of this process, with the control plane of the plugin.

It simulates time and memory, not a model: blocks, batching and eviction are real, replies are scripted, and how long
a step takes comes from a cost model. It runs the same `agentrt.kv` and the same executor as the vLLM plugin.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.middleware import Middleware

from agentrt.act import Outcome
from agentrt.config import Settings
from agentrt.engines.base import Engine
from agentrt.engines.embedded.control import EmbeddedControl
from agentrt.engines.embedded.cost import CostModel
from agentrt.engines.embedded.job import JobMaker
from agentrt.engines.embedded.loop import EngineLoop
from agentrt.engines.embedded.pool import BlockPool
from agentrt.engines.embedded.responder import Responder, SeededResponder
from agentrt.engines.embedded.scheduler import Scheduler
from agentrt.engines.embedded.server import KeyGuard, OpenAIServer
from agentrt.engines.embedded.thread import ServerThread
from agentrt.engines.messages import Refusal, message_bytes, parse_message, too_large
from agentrt.engines.reports import AuditReply, Capabilities, EngineStatus, Residency
from agentrt.engines.routes import control_routes
from agentrt.engines.wire import Action
from agentrt.errors import ActionRefused, ConfigError
from agentrt.identity import DEFAULT_TENANT
from agentrt.kv.order import KVOrder

logger = logging.getLogger("agentrt")

_MAX_MODEL_LEN = 32_768
_CONTROL_TIMEOUT_S = 10.0


class EmbeddedEngine(Engine):
    """Starts its server on construction, so that `base_url` is known; `close()`, or `with`, stops it.

    `time_scale` stretches or shrinks every step (0: as fast as Python goes). `order=False` is a stock server: plain
    LRU, identities ignored, actions rejected. `max_model_len` defaults to what the pool holds, at most 32768 tokens.
    Replies depend on `seed` and the prompt alone. Raises ConfigError where a value has no meaning or the port is
    taken. Thread-safe.
    """

    def __init__(
        self,
        *,
        num_blocks: int = 2048,
        block_size_tokens: int = 16,
        max_batched_tokens: int = 2048,
        max_num_seqs: int = 64,
        max_model_len: int | None = None,
        seed: int = 0,
        cost: CostModel | None = None,
        time_scale: float = 1.0,
        responder: Responder | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        order: bool = True,
        model: str = "agentrt-embedded",
        api_key: str | SecretStr | None = None,
        settings: Settings | None = None,
    ) -> None:
        _at_least_one(
            num_blocks=num_blocks,
            block_size_tokens=block_size_tokens,
            max_batched_tokens=max_batched_tokens,
            max_num_seqs=max_num_seqs,
            max_model_len=1 if max_model_len is None else max_model_len,
        )
        if not 0 <= time_scale < float("inf"):
            raise ConfigError(f"time_scale={time_scale}: a finite number, 0 or more")
        self._settings = settings or Settings.load()
        capacity_tokens = num_blocks * block_size_tokens
        kv_order = KVOrder(
            num_blocks=num_blocks,
            block_size_tokens=block_size_tokens,
            clock=time.monotonic,
            retain_max_share=self._settings.retain_max_share,
        )
        pool = BlockPool(kv_order)
        kv_order.queue.ordered = order
        scheduler = Scheduler(pool, max_batched_tokens=max_batched_tokens, max_num_seqs=max_num_seqs)
        self._loop = EngineLoop(pool, scheduler, cost=cost or CostModel(), time_scale=time_scale)
        self._control = EmbeddedControl(self._loop, kv_order, stock=not order)
        jobs = JobMaker(
            responder=responder or SeededResponder(),
            seed=seed,
            max_model_len=min(max_model_len or _MAX_MODEL_LEN, capacity_tokens),
            labelled=order,
        )
        self._thread = ServerThread(self._app(jobs, model, _plain(api_key)), host=host, port=port)
        shown = f"[{host}]" if ":" in host else host
        self._base_url = f"http://{shown}:{self._thread.port}"
        logger.info(
            "agentrt: embedded engine at %s: a simulation of time and KV memory, no model; its replies are scripted",
            self._base_url,
        )

    @property
    def base_url(self) -> str:
        """Root URL of the server, without `/v1`."""
        return self._base_url

    def execute(self, actions: Sequence[Action], *, message_id: str | None = None) -> list[Outcome]:
        """Carry out actions by the rules of the HTTP route. Raises EngineError."""
        if not actions:
            return []
        body = message_bytes(actions, message_id)
        try:
            if len(body) > self._settings.max_body_bytes:
                raise too_large(self._settings.max_body_bytes)
            known_id, validated = parse_message(body, max_actions=self._settings.max_actions)
        except Refusal as refusal:
            raise ActionRefused(refusal.message) from None
        answers = self._thread.call(self._control.execute(known_id, validated), timeout_s=_CONTROL_TIMEOUT_S)
        return [Outcome(action_id=a.action_id, status=a.outcome, reason=a.reason) for a in answers]

    def capabilities(self) -> Capabilities:
        """What the engine can do. Raises EngineUnreachable when it is closed."""
        return self._thread.call(self._control.capabilities(), timeout_s=_CONTROL_TIMEOUT_S)

    def status(self, *, tenant: str = DEFAULT_TENANT) -> EngineStatus:
        """How it stands now; of anchors, those of one tenant. Raises EngineUnreachable when it is closed."""
        return self._thread.call(self._control.status(), timeout_s=_CONTROL_TIMEOUT_S).of_tenant(tenant)

    def residency(
        self, *, agent: str | None = None, session: str | None = None, tenant: str = DEFAULT_TENANT
    ) -> list[Residency]:
        """Resident blocks of an agent or a session, by owner group. Raises EngineUnreachable when closed."""
        asked = self._control.residency(tenant=tenant, agent=agent, session=session)
        return self._thread.call(asked, timeout_s=_CONTROL_TIMEOUT_S).groups

    def audit(self) -> AuditReply:
        """Whether queue, ownership and blocks agree. Raises EngineUnreachable when it is closed."""
        return self._thread.call(self._control.audit(), timeout_s=_CONTROL_TIMEOUT_S)

    def wait(self) -> None:
        """Block until the server ends; for running it in the foreground."""
        self._thread.wait()

    def close(self) -> None:
        """Fail what is in flight and stop the server. Harmless when repeated."""
        self._thread.close(before=self._loop.stop)

    def _app(self, jobs: JobMaker, model: str, api_key: str | None) -> Starlette:
        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            running = asyncio.create_task(self._loop.run())
            yield
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

        return Starlette(
            routes=[
                *OpenAIServer(self._loop, jobs, model=model).routes(),
                *control_routes(lambda: self._control, self._settings),
            ],
            middleware=[Middleware(KeyGuard, api_key=api_key)] if api_key else [],
            lifespan=lifespan,
        )


def _at_least_one(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ConfigError(f"{name}={value}: at least 1")


def _plain(api_key: str | SecretStr | None) -> str | None:
    return api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key

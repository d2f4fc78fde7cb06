"""The embedded engine's side of `/v1/agentrt`."""

from array import array
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from agentrt.engines.embedded.loop import EngineLoop
from agentrt.engines.executor import ActionExecutor
from agentrt.engines.reports import AuditReply, Capabilities, EngineStatus, Residency, ResidencyReply
from agentrt.engines.wire import PAYLOADS, PROTOCOL_VERSION, ActionOutcome
from agentrt.identity import AgentKey
from agentrt.kv.audit import audit
from agentrt.kv.order import KVOrder


class EmbeddedControl:
    """A `ControlBackend` over an `EngineLoop`, in the loop's own thread."""

    def __init__(self, loop: EngineLoop, order: KVOrder, *, stock: bool) -> None:
        self._loop = loop
        self._order = order
        self._stock = stock
        self._executor = ActionExecutor(order, load=lambda: loop.load)

    async def capabilities(self) -> Capabilities:
        """What the engine can do."""
        degraded = []
        if self._stock:
            degraded.append("started with order=False: stock LRU")
        elif not self._order.queue.ordered:
            degraded.append("the eviction order failed: stock LRU, see the log")
        return Capabilities(
            protocol_version=PROTOCOL_VERSION,
            engine="embedded",
            engine_version=_version(),
            agentrt_version=_version(),
            order="lru" if degraded else "agentrt",
            degraded=degraded,
            actions=[] if degraded else sorted(PAYLOADS),
            block_size_tokens=self._order.block_size_tokens,
            num_blocks=self._order.num_blocks,
        )

    async def status(self) -> EngineStatus:
        """How it stands now."""
        running, waiting = self._loop.load
        known = self._order.status()
        counters = {**known.pop("counters"), **self._loop.scheduler.counters}
        return EngineStatus(**known, running=running, waiting=waiting, counters=counters)

    async def residency(self, *, tenant: str, agent: str | None, session: str | None) -> ResidencyReply:
        """Resident blocks by owner group."""
        groups = self._order.residency(tenant=tenant, agent=agent, session=session)
        return ResidencyReply(groups=[Residency(**group) for group in groups])

    async def audit(self) -> AuditReply:
        """Whether queue, ownership and blocks agree."""
        states = self._loop.block_states()
        return AuditReply(blocks=len(states), findings=audit(self._order, states))

    async def execute(self, message_id: str, actions: list[dict[str, Any]]) -> list[ActionOutcome]:
        """Carry out actions; a prefetch goes on in the background."""
        outcomes = []
        for answer in self._executor.execute(message_id, actions):
            chain = answer.pop("prefetch", None)
            if chain is not None:
                self._loop.prefetch(AgentKey(*chain["agent"]), array("I", chain["token_ids"]), chain["cache_salt"])
            outcomes.append(ActionOutcome(**answer))
        return outcomes


def _version() -> str:
    try:
        return version("agentrt")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"

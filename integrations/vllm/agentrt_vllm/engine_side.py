"""The engine's end of the control plane: what `EngineCore.agentrt_call` answers, between two engine steps.

Arguments and answers cross processes as msgpack: dicts, lists and scalars only.
"""

from importlib.metadata import version
from typing import Any

from agentrt.engines.executor import ActionExecutor
from agentrt.engines.wire import PAYLOADS, PROTOCOL_VERSION
from agentrt.kv.audit import BlockState, audit
from agentrt_vllm.hooks import Hooks
from agentrt_vllm.seams import vllm_version


class EngineSide:
    """Answers for one scheduler, with the order or without it. Lives on the engine's loop thread."""

    def __init__(self, scheduler: Any, hooks: Hooks | None, degraded: str) -> None:
        self._scheduler = scheduler
        self._order = hooks.order if hooks is not None else None
        self._degraded = degraded
        self._executor = ActionExecutor(self._order, load=self._load) if self._order is not None else None

    def call(self, op: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Answer `op`: capabilities, status, residency, audit or execute."""
        if op == "capabilities":
            return self._capabilities()
        if op == "status":
            return self._status()
        if op == "residency":
            return {"groups": self._order.residency(**payload) if self._order is not None else []}
        if op == "audit":
            return self._audit()
        if op == "execute":
            return {"outcomes": self._execute(payload["message_id"], payload["actions"])}
        raise ValueError(f"agentrt: no operation {op!r}")

    def _capabilities(self) -> dict[str, Any]:
        ordered = self._order is not None and self._order.queue.ordered
        degraded = [self._degraded] if self._degraded else []
        if self._order is not None and not ordered:
            degraded.append("a fault occurred, stock LRU from there on; see the server's log")
        return {
            "protocol_version": PROTOCOL_VERSION,
            "engine": "vllm",
            "engine_version": vllm_version(),
            "agentrt_version": version("agentrt"),
            "order": "agentrt" if ordered else "lru",
            "degraded": degraded,
            "actions": list(PAYLOADS) if self._executor is not None else [],
            "block_size_tokens": self._scheduler.block_size,
            "num_blocks": self._usable_blocks(),
        }

    def _status(self) -> dict[str, Any]:
        running, waiting = self._load()
        load = {"running": running, "waiting": waiting, "total_blocks": self._usable_blocks()}
        if self._order is not None:
            return {**self._order.status(), **load}
        return {
            **load,
            "order": "lru",
            "free_blocks": self._pool().get_num_free_blocks(),
            "cached_blocks": 0,
            "groups": 0,
            "sessions": 0,
            "faults": 0,
        }

    def _audit(self) -> dict[str, Any]:
        states = [
            BlockState(block.block_id, block.ref_cnt > 0, block.block_hash is not None)
            for block in self._pool().blocks
            if not block.is_null
        ]
        return {"blocks": len(states), "findings": audit(self._order, states) if self._order is not None else []}

    def _execute(self, message_id: str, actions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self._executor is not None:
            return self._executor.execute(message_id, actions)
        return [
            {"action_id": action["action_id"], "outcome": "rejected", "reason": self._degraded} for action in actions
        ]

    def _load(self) -> tuple[int, int]:
        return len(self._scheduler.running), len(self._scheduler.waiting)

    def _pool(self) -> Any:
        return self._scheduler.kv_cache_manager.block_pool

    def _usable_blocks(self) -> int:
        return int(self._pool().num_gpu_blocks) - 1  # one is vLLM's null block


def agentrt_call(core: Any, op: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Becomes a method of EngineCore. An exception here reaches the caller as one; the engine lives on."""
    side = getattr(core.scheduler, "agentrt", None)
    if side is None:
        side = EngineSide(core.scheduler, None, "the scheduler could not be extended, stock LRU stays")
    answer: dict[str, Any] = side.call(op, payload)
    return answer

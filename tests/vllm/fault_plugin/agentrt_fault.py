"""A vLLM plugin that makes the agentrt plugin raise: a call of the agent `FAULTY_AGENT` breaks the order."""

from typing import Any

from agentrt.kv.order import KVOrder

FAULTY_AGENT = "raise-in-call-started"


def register() -> None:
    """Wrap `KVOrder.call_started`."""
    original = KVOrder.call_started

    def call_started(order: KVOrder, call_id: str, identity: Any, *args: Any, **kwargs: Any) -> None:
        if identity is not None and identity.agent == FAULTY_AGENT:
            raise RuntimeError("injected by the test")
        original(order, call_id, identity, *args, **kwargs)

    KVOrder.call_started = call_started  # type: ignore[method-assign]

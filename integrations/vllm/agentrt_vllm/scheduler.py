"""The mixin put in front of vLLM's scheduler class: takes over the free queue when every seam is as expected."""

import logging
import time
from functools import cache, wraps
from typing import Any

from vllm.config import SchedulerConfig
from vllm.v1.engine.core import EngineCore

from agentrt.config import Settings
from agentrt.kv.order import KVOrder
from agentrt_vllm.engine_side import EngineSide, agentrt_call
from agentrt_vllm.hooks import Hooks
from agentrt_vllm.seams import SeamMissing, check_scheduler, check_take_over, vllm_version

logger = logging.getLogger("agentrt")


def extend_vllm(settings: Settings) -> None:
    """Put the mixin in front of whatever scheduler class vLLM chooses, and `agentrt_call` on EngineCore."""
    original = SchedulerConfig.get_scheduler_cls
    if getattr(original, "extended_by_agentrt", False):
        return

    @wraps(original)
    def get_scheduler_cls(config: Any) -> Any:
        chosen = original(config)
        try:
            return extended(chosen, settings)
        except Exception:
            logger.exception("agentrt: scheduler class %r cannot be extended, stock LRU stays", chosen)
            return chosen

    get_scheduler_cls.extended_by_agentrt = True  # type: ignore[attr-defined]  # marks a second registration
    EngineCore.agentrt_call = agentrt_call
    SchedulerConfig.get_scheduler_cls = get_scheduler_cls


class AgentRTMixin:
    """In front of `Scheduler` or `AsyncScheduler`. Adds no behaviour when a seam is missing."""

    agentrt: EngineSide
    agentrt_settings: Settings
    _agentrt_hooks: Hooks | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._agentrt_hooks = None
        try:
            self._agentrt_hooks = take_over(self, self.agentrt_settings)
            degraded = ""
        except SeamMissing as seam:
            degraded = f"{seam} missing in vLLM {vllm_version()}, stock LRU stays"
            logger.warning("agentrt: %s", degraded)
        except Exception:
            degraded = f"take-over failed in vLLM {vllm_version()}, stock LRU stays"
            logger.exception("agentrt: %s", degraded)
        self.agentrt = EngineSide(self, self._agentrt_hooks, degraded)

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        """One engine step of vLLM; time passes for the order before it."""
        if self._agentrt_hooks is not None:
            self._agentrt_hooks.step()
        return super().schedule(*args, **kwargs)  # type: ignore[misc]  # the class behind is vLLM's


def take_over(scheduler: Any, settings: Settings) -> Hooks:
    """Put our queue in place of vLLM's and hook the block pool. Raises before anything is changed."""
    check_scheduler(scheduler)
    pool = scheduler.kv_cache_manager.block_pool
    order = KVOrder(
        num_blocks=pool.num_gpu_blocks,
        block_size_tokens=scheduler.block_size,
        clock=time.monotonic,
        retain_max_share=settings.retain_max_share,
    )
    stock = pool.free_block_queue
    queue = order.take_over(stock.get_all_free_blocks())
    check_take_over(stock, queue)
    hooks = Hooks(order, scheduler.kv_cache_manager)
    pool.free_block_queue = queue
    hooks.attach()
    logger.info("agentrt: eviction follows the agents (%d blocks)", pool.num_gpu_blocks - 1)
    return hooks


@cache
def extended(base: type[Any], settings: Settings) -> type[Any]:
    """`base` with the mixin in front; the same class for the same base."""
    if issubclass(base, AgentRTMixin):
        return base
    return type(f"AgentRT{base.__name__}", (AgentRTMixin, base), {"agentrt_settings": settings})

"""What the plugin relies on inside vLLM, checked one by one before anything is touched.

vLLM calls these internals not public, so each is looked for at start, by name and by shape. The first that is missing
ends the check: the scheduler stays as it is. The order is that of the cost of being wrong: first what would be a
changed contract, last what this deployment merely does not use.
"""

import inspect
import logging
import re
from typing import Any

import vllm

from agentrt.kv.queue import OrderedFreeQueue

logger = logging.getLogger("agentrt")

OLDEST = (0, 28)
"""First version with everything used here: endpoint plugins (0.26), session ids, today's queue."""
NEWEST_TESTED = (0, 32)

STOCK_QUEUE = "FreeKVCacheBlockQueue"
POOL_NAMES = (
    "blocks", "num_gpu_blocks", "enable_caching", "free_block_queue", "get_new_blocks", "touch", "free_blocks",
    "cache_full_blocks", "evict_blocks", "reset_prefix_cache", "_maybe_evict_cached_block",
)  # fmt: skip
MANAGER_NAMES = ("block_pool", "kv_cache_config", "allocate_slots", "free")
SCHEDULER_NAMES = ("kv_cache_manager", "block_size", "running", "waiting", "schedule")
FULL_ATTENTION = ("FullAttentionSpec", "MLAAttentionSpec")
"""Other kinds of KV cache drop blocks in mid-request or share them between groups: not covered."""


class SeamMissing(Exception):  # noqa: N818 - reads as a statement
    """Something the plugin relies on is not as expected; the text names it."""


def vllm_version() -> str:
    """Version of the running vLLM."""
    return str(vllm.__version__)


def check_scheduler(scheduler: Any) -> None:
    """Raise SeamMissing naming the first thing that is not as expected."""
    _check_version(vllm_version())
    _check_names(scheduler, SCHEDULER_NAMES, "Scheduler")
    manager = scheduler.kv_cache_manager
    _check_names(manager, MANAGER_NAMES, "KVCacheManager")
    pool = manager.block_pool
    _check_names(pool, POOL_NAMES, "BlockPool")
    _check_queue(pool.free_block_queue)
    _check_signatures(pool, manager)
    _check_deployment(pool, manager)


def check_take_over(stock: Any, ours: OrderedFreeQueue) -> None:
    """Raise SeamMissing unless both queues hold the same blocks in the same order."""
    expected = [block.block_id for block in stock.get_all_free_blocks()]
    taken = [block.block_id for block in ours.get_all_free_blocks()]
    if taken != expected or ours.num_free_blocks != stock.num_free_blocks:
        raise SeamMissing("the free queue's order at take-over")


def _check_version(version: str) -> None:
    match = re.match(r"(\d+)\.(\d+)", version)
    if match is None:
        logger.warning("agentrt: vLLM version %r is not one we know, going on", version)
        return
    release = (int(match[1]), int(match[2]))
    if release < OLDEST:
        raise SeamMissing(f"support of agentrt (it begins with vLLM {OLDEST[0]}.{OLDEST[1]}) is")
    if release > NEWEST_TESTED:
        logger.warning("agentrt: vLLM %s is newer than the newest tested, going on", version)


def _check_names(owner: Any, names: tuple[str, ...], kind: str) -> None:
    for name in names:
        if not hasattr(owner, name):
            raise SeamMissing(f"{kind}.{name}")


def _check_queue(queue: Any) -> None:
    if type(queue).__name__ != STOCK_QUEUE:
        raise SeamMissing(f"the stock free queue (found {type(queue).__name__})")
    theirs = {name for name, _ in inspect.getmembers(type(queue), callable) if not name.startswith("_")}
    unknown = sorted(theirs - set(dir(OrderedFreeQueue)))
    if unknown:
        # A method we do not have is one that somebody is going to call.
        raise SeamMissing(f"an order for {STOCK_QUEUE}.{unknown[0]} is")


def _check_signatures(pool: Any, manager: Any) -> None:
    stored = list(inspect.signature(pool.cache_full_blocks).parameters)
    if stored[:4] != ["request", "blocks", "num_cached_blocks", "num_full_blocks"]:
        raise SeamMissing("BlockPool.cache_full_blocks(request, blocks, num_cached_blocks, num_full_blocks)")
    allocate = inspect.signature(manager.allocate_slots).parameters
    if next(iter(allocate), None) != "request" or "new_computed_blocks" not in allocate:
        raise SeamMissing("KVCacheManager.allocate_slots(request, new_computed_blocks=)")


def _check_deployment(pool: Any, manager: Any) -> None:
    if not pool.enable_caching:
        raise SeamMissing("prefix caching")
    groups = manager.kv_cache_config.kv_cache_groups
    if len(groups) != 1 or type(groups[0].kv_cache_spec).__name__ not in FULL_ATTENTION:
        raise SeamMissing("a single group of full-attention KV cache")
    if any(block.block_id != index for index, block in enumerate(pool.blocks)):
        raise SeamMissing("dense block ids")

"""What the order hears of vLLM's block pool: hooks set on the objects of one scheduler, beside the original calls.

A hook that raises ends the order, not the engine: `KVOrder.fault` drops the queue to plain LRU for good, and from then
on the hooks do nothing.
"""

import logging
from collections.abc import Callable
from typing import Any

from agentrt.engines.wire import LABEL_KEY
from agentrt.identity import Identity
from agentrt.kv.order import KVOrder

logger = logging.getLogger("agentrt")

PREFETCH_ID = "agentrt-prefetch-"
"""Start of the request ids of our own prefetches. No client can choose it: vLLM prefixes theirs."""


class Hooks:
    """Carries one scheduler's block events to a KVOrder. Lives on the engine's loop thread."""

    def __init__(self, order: KVOrder, manager: Any) -> None:
        self.order = order
        self._manager = manager
        self._pool = manager.block_pool
        # Else hashes do not stand for blocks one by one, and the guard has nothing to compare.
        self._hashes_are_blocks = getattr(self._pool, "hash_block_size", None) == order.block_size_tokens
        self._arriving: tuple[Any, Any] | None = None
        """Request and hit blocks being admitted, until the order has heard of them."""

    def attach(self) -> None:
        """Hook the pool and the manager. The originals stay in place under the hooks."""
        for owner, name, hooked in (
            (self._manager, "allocate_slots", self._allocate_slots),
            (self._manager, "free", self._free),
            (self._manager, "pop_blocks_for_free", self._free),
            (self._pool, "get_new_blocks", self._get_new_blocks),
            (self._pool, "cache_full_blocks", self._cache_full_blocks),
            (self._pool, "_maybe_evict_cached_block", self._evict),
            (self._pool, "reset_prefix_cache", self._reset),
        ):
            original = getattr(owner, name, None)
            if original is not None:
                setattr(owner, name, hooked(original))

    def step(self) -> None:
        """An engine step begins."""
        self._tell("schedule", self.order.tick)

    def _tell(self, where: str, hook: Callable[..., object], *args: Any) -> None:
        """Call `hook` unless the order has failed; a failure ends the order."""
        if not self.order.queue.ordered:
            return
        try:
            hook(*args)
        except Exception:
            logger.exception("agentrt: hook %s failed", where)
            self.order.fault(where)

    def _allocate_slots(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def allocate_slots(request: Any, *args: Any, **kwargs: Any) -> Any:
            hits = args[2] if len(args) > 2 else kwargs.get("new_computed_blocks")  # noqa: PLR2004 - its place
            if hits is None:  # a running request grows
                return original(request, *args, **kwargs)
            self._arriving = (request, hits)
            try:
                slots = original(request, *args, **kwargs)
                if slots is not None:
                    self._tell("allocate_slots", self._start)
                return slots
            finally:
                self._arriving = None

        return allocate_slots

    def _start(self) -> None:
        """Tell of the request being admitted, once.

        Called before its first block is allocated or stored, so that victims are already chosen in the light of
        this call; by then vLLM has decided to admit it and taken its hit blocks out of the free queue.
        """
        if self._arriving is None:
            return
        request, hits = self._arriving
        self._arriving = None
        named = _identity(request)
        warming = request.request_id.startswith(PREFETCH_ID)
        self.order.call_started(
            request.request_id,
            None if warming else named,
            [block for block in hits.blocks[0] if not block.is_null],
            request.prompt_token_ids or (),
            block_hashes=self._hashes(request),
            cache_salt=request.cache_salt,
            warms=named.agent_key if warming and named is not None else None,
        )

    def _get_new_blocks(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def get_new_blocks(num_blocks: int) -> Any:
            self._tell("allocate_slots", self._start)
            blocks = original(num_blocks)
            self._tell("get_new_blocks", self.order.blocks_allocated, [block.block_id for block in blocks])
            return blocks

        return get_new_blocks

    def _cache_full_blocks(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def cache_full_blocks(
            request: Any, blocks: Any, num_cached_blocks: int, num_full_blocks: int, *args: Any, **kwargs: Any
        ) -> Any:
            self._tell("allocate_slots", self._start)
            result = original(request, blocks, num_cached_blocks, num_full_blocks, *args, **kwargs)
            self._tell("cache_full_blocks", self._stored, request, blocks, num_cached_blocks, num_full_blocks)
            return result

        return cache_full_blocks

    def _stored(self, request: Any, blocks: Any, first: int, end: int) -> None:
        stored = [block for block in blocks[first:end] if block.block_hash is not None and not block.is_null]
        hashes = self._hashes(request)[first:end]
        self.order.blocks_stored(request.request_id, stored, first=first, block_hashes=hashes)

    def _free(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def free(request: Any) -> Any:
            self._tell("free", self._ended, request)
            return original(request)

        return free

    def _ended(self, request: Any) -> None:
        if request.is_finished():
            self.order.call_ended(request.request_id)
        else:
            self.order.call_preempted(request.request_id)

    def _hashes(self, request: Any) -> Any:
        """Hashes of the request's full blocks so far; none where they would mislead the guard.

        A request that may not read the cache says nothing about what it would have found there.
        """
        if not self._hashes_are_blocks or getattr(request, "skip_reading_prefix_cache", False):
            return ()
        return request.block_hashes

    def _evict(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def maybe_evict_cached_block(block: Any) -> Any:
            evicted = original(block)
            if evicted:
                self._tell("evict", self.order.block_evicted, block.block_id)
            return evicted

        return maybe_evict_cached_block

    def _reset(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def reset_prefix_cache() -> Any:
            cached = {block.block_id for block in self._pool.blocks if block.block_hash is not None}
            done = original()
            if done:
                self._tell("reset_prefix_cache", self._forget, cached)
            return done

        return reset_prefix_cache

    def _forget(self, cached: set[int]) -> None:
        """Every block is free and caches nothing: none may keep the place its owner gave it."""
        queue = self.order.queue
        removed = []
        try:
            for block in queue.get_all_free_blocks():
                queue.remove(block)
                removed.append(block)
                if block.block_id in cached:
                    self.order.block_evicted(block.block_id)
        finally:
            queue.prepend_n(removed)
        self.order.guard.reset()


def _identity(request: Any) -> Identity | None:
    """The caller named in the request's label; None for traffic without one."""
    extra = getattr(request.sampling_params, "extra_args", None)
    return Identity.from_label(extra.get(LABEL_KEY)) if extra else None

"""Continuous batching under a token budget, after vLLM's v1 scheduler.

A step serves running requests first (a decode token each, or the next chunk of a prompt), then admits waiting ones
while budget, slots and blocks last. A request is admitted only if its whole prompt fits. When blocks run out the
last running request is preempted: its blocks are freed and it is computed again later, mostly from the cache. Lower
`priority` goes first; among equals, first come first served.

Pure and synchronous: `step()` does the work of one engine step at once and says what it cost, so the same code runs
on a real clock and on a virtual one.
"""

import bisect
from collections.abc import Sequence

from agentrt.engines.embedded.cost import StepWork
from agentrt.engines.embedded.pool import Block, BlockPool, HashChain
from agentrt.engines.embedded.request import Request, Step

_COUNTERS = (
    "requests",
    "prompt_tokens",
    "cached_prompt_tokens",
    "prefill_tokens",
    "generated_tokens",
    "steps",
    "preemptions",
    "finished",
    "aborted",
)


class Scheduler:
    """Not thread-safe: it belongs to the engine's loop."""

    def __init__(self, pool: BlockPool, *, max_batched_tokens: int = 2048, max_num_seqs: int = 64) -> None:
        self._pool = pool
        self._max_batched_tokens = max_batched_tokens
        self._max_num_seqs = max_num_seqs
        self._arrivals = 0
        self._budget = 0
        self._scheduled: dict[Request, int] = {}
        self.running: list[Request] = []
        self.waiting: list[Request] = []
        """In the order of admission."""
        self.counters = dict.fromkeys(_COUNTERS, 0)

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self.running or self.waiting)

    def add(self, request: Request) -> None:
        """Queue a request. Raises ValueError for one that the whole pool could not hold."""
        needed = self._blocks_for(len(request.prompt) + len(request.reply))
        if needed > self._pool.num_blocks or not request.prompt or not request.reply:
            raise ValueError(f"{needed} blocks needed, the pool has {self._pool.num_blocks}")
        self._arrivals += 1
        request.arrival = self._arrivals
        request.chain = HashChain(self._pool.block_size_tokens, request.cache_salt)
        self._enqueue(request)
        self._count("requests")

    def abort(self, request: Request) -> None:
        """Drop a request and free its blocks; harmless when it is finished."""
        if request in self.running:
            self.running.remove(request)
        elif request in self.waiting:
            self.waiting.remove(request)
        else:
            return
        self._release(request)
        self._count("aborted")

    def step(self) -> Step:
        """Run one engine step."""
        step = Step()
        self._budget = self._max_batched_tokens
        self._scheduled = {}
        self._serve_running(step)
        if not step.preempted:
            self._admit_waiting()
        self._advance(step)
        self._count("steps")
        return step

    # ---- scheduling ---------------------------------------------------------------------------------------

    def _serve_running(self, step: Step) -> None:
        index = 0
        while index < len(self.running) and self._budget > 0:
            request = self.running[index]
            count = min(len(request.tokens) - request.num_computed, self._budget)
            while not self._grow(request, count):
                victim = max(self.running, key=lambda r: r.rank)
                index -= self.running.index(victim) < index
                self._preempt(victim)
                step.preempted.append(victim)
                if victim is request:
                    return
            self._schedule(request, count)
            index += 1

    def _admit_waiting(self) -> None:
        while self.waiting and self._budget > 0 and len(self.running) < self._max_num_seqs:
            request = self.waiting[0]
            hit = self._pool.find_hit(request.chain.extend(request.tokens), len(request.tokens) - 1)
            needed = self._blocks_for(len(request.tokens)) - len(hit) + self._pool.num_evictable(hit)
            if needed > self._pool.num_free_blocks:
                return
            self.waiting.pop(0)
            self.running.append(request)
            self._adopt(request, hit)
            count = min(len(request.tokens) - request.num_computed, self._budget)
            self._grow(request, count)
            self._schedule(request, count)

    def _adopt(self, request: Request, hit: Sequence[Block]) -> None:
        """Start from a cached prefix."""
        self._pool.touch(hit)
        request.blocks = list(hit)
        request.num_stored_blocks = len(hit)
        request.num_computed = len(hit) * self._pool.block_size_tokens
        if request.num_cached_tokens is None:
            request.num_cached_tokens = request.num_computed
            self._count("prompt_tokens", len(request.prompt))
            self._count("cached_prompt_tokens", request.num_computed)
        self._pool.tell(
            "call_started",
            lambda order: order.call_started(
                request.request_id,
                request.identity,
                hit,
                request.prompt,
                block_hashes=request.chain.hashes,
                cache_salt=request.cache_salt,
                warms=request.warms,
            ),
        )

    def _grow(self, request: Request, count: int) -> bool:
        """Get blocks for `count` more tokens and cache those that become full; False when too few are free."""
        target = request.num_computed + count
        missing = self._blocks_for(target) - len(request.blocks)
        if missing > self._pool.num_free_blocks:
            return False
        if missing > 0:
            request.blocks += self._pool.allocate(missing)
        # As in vLLM a block can be hit from the moment it is scheduled: a step writes its KV before it is read.
        first, last = request.num_stored_blocks, target // self._pool.block_size_tokens
        if last > first:
            full, hashes = request.blocks[first:last], request.chain.extend(request.tokens)[first:last]
            self._pool.store(full, hashes)
            request.num_stored_blocks = last
            call_id = request.request_id
            self._pool.tell(
                "blocks_stored", lambda order: order.blocks_stored(call_id, full, first=first, block_hashes=hashes)
            )
        return True

    def _schedule(self, request: Request, count: int) -> None:
        self._scheduled[request] = count
        self._budget -= count

    def _preempt(self, request: Request) -> None:
        self._budget += self._scheduled.pop(request, 0)
        self.running.remove(request)
        self._pool.tell("call_preempted", lambda order: order.call_preempted(request.request_id))
        self._give_back_blocks(request)
        request.num_preemptions += 1
        self._enqueue(request)
        self._count("preemptions")

    # ---- carrying out -------------------------------------------------------------------------------------

    def _advance(self, step: Step) -> None:
        """Compute what was scheduled; a request whose last token was computed produces the next one."""
        prefill_tokens = prefill_pairs = decode_seqs = decode_context = 0
        for request, count in self._scheduled.items():
            done = request.num_computed
            if count == 1 and done >= len(request.prompt):
                decode_seqs += 1
                decode_context += done + 1
            else:
                prefill_tokens += count
                prefill_pairs += count * done + count * (count + 1) // 2
            request.num_computed += count
            if request.num_computed == len(request.tokens):
                self._produce(request, step)
        step.work = StepWork(
            prefill_tokens=prefill_tokens,
            prefill_pairs=prefill_pairs,
            decode_seqs=decode_seqs,
            decode_context_tokens=decode_context,
        )
        self._count("prefill_tokens", prefill_tokens)
        self._count("generated_tokens", len(step.produced))

    def _produce(self, request: Request, step: Step) -> None:
        request.tokens.append(request.reply[request.num_produced])
        request.num_produced += 1
        step.produced.append(request)
        if request.finished:
            step.finished.append(request)
            self.running.remove(request)
            self._release(request)
            self._count("finished")

    def _release(self, request: Request) -> None:
        self._pool.tell("call_ended", lambda order: order.call_ended(request.request_id))
        self._give_back_blocks(request)

    def _give_back_blocks(self, request: Request) -> None:
        self._pool.free(request.blocks)
        request.blocks = []
        request.num_computed = request.num_stored_blocks = 0

    # ---- bookkeeping --------------------------------------------------------------------------------------

    def _enqueue(self, request: Request) -> None:
        bisect.insort(self.waiting, request, key=lambda r: r.rank)

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self._pool.block_size_tokens)

    def _count(self, name: str, by: int = 1) -> None:
        self.counters[name] += by

"""With unlabelled traffic our queue picks the same victims as vLLM's own, in the same order."""

import random
from types import SimpleNamespace

import pytest
from agentrt_vllm.hooks import Hooks
from agentrt_vllm.seams import check_take_over

from agentrt.identity import Identity
from agentrt.kv.order import KVOrder

POOL_OPERATIONS = 250_000
SEEDS = 8


class TwinPools:
    """Two of vLLM's block pools under the same operations, one of them with our queue and hooks."""

    def __init__(self, vllm, num_blocks, seed):
        self.rng = random.Random(seed)
        self.now = 0.0
        self.operations = 0
        self.live = []
        """(stock blocks, our blocks) of every request in progress."""
        self.stock, self.ours = (
            vllm.BlockPool(num_gpu_blocks=num_blocks, enable_caching=True, hash_block_size=1) for _ in range(2)
        )
        order = KVOrder(num_blocks=num_blocks, block_size_tokens=1, clock=lambda: self.now)
        queue = order.take_over(self.ours.free_block_queue.get_all_free_blocks())
        check_take_over(self.stock.free_block_queue, queue)
        self.ours.free_block_queue = queue
        self.hooks = Hooks(order, SimpleNamespace(block_pool=self.ours))
        self.hooks.attach()

    def operate(self):
        """One random operation on both pools; every choice of blocks is compared."""
        self.now += self.rng.random() * 0.05
        self.operations += 1
        kind = self.rng.random()
        if kind < 0.55:
            self.request()
        elif kind < 0.93 and self.live:
            self.finish(self.rng.randrange(len(self.live)))
        elif kind < 0.98:
            some = {self.rng.randrange(1, self.stock.num_gpu_blocks) for _ in range(3)}
            for pool in (self.stock, self.ours):
                pool.evict_blocks(some)
        elif kind < 0.981:
            while self.live:
                self.finish(-1)
            assert self.stock.reset_prefix_cache() is self.ours.reset_prefix_cache() is True
        else:
            self.hooks.step()

    def request(self):
        """A prompt of one of some conversations: hit its cached head, allocate the rest, cache what became full."""
        chain, length = self.rng.randrange(12), self.rng.randint(1, self.stock.num_gpu_blocks // 4)
        hashes = [f"{chain}:{i}".encode() for i in range(length)]
        request = SimpleNamespace(request_id=f"{self.operations}", block_hashes=hashes)
        full = self.rng.randint(0, length)
        blocks = [self.admit(pool, request, full) for pool in (self.stock, self.ours)]
        assert ids(blocks[0]) == ids(blocks[1])
        if blocks[0]:
            self.live.append(tuple(blocks))

    def admit(self, pool, request, full):
        """What a KV cache manager does with one pool when a request arrives; [] when it does not fit."""
        hits = []
        for block_hash in request.block_hashes:
            found = pool.get_cached_block(block_hash, [0])
            if found is None:
                break
            hits.append(found[0])
        new = len(request.block_hashes) - len(hits)
        if new > pool.get_num_free_blocks() - sum(block.ref_cnt == 0 for block in hits):
            return []
        pool.touch(hits)
        blocks = hits + pool.get_new_blocks(new)
        if full > len(hits):
            pool.cache_full_blocks(
                request=request, blocks=blocks, num_cached_blocks=len(hits), num_full_blocks=full,
                block_size=1, kv_cache_group_id=0,
            )  # fmt: skip
        self.operations += 3
        return blocks

    def finish(self, index):
        """A request ends: its blocks are freed, tail first."""
        for pool, blocks in zip((self.stock, self.ours), self.live.pop(index), strict=True):
            pool.free_blocks(reversed(blocks))


def ids(blocks):
    return [block.block_id for block in blocks]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_pool_operations_pick_the_same_blocks(vllm, seed):
    """Over 250,000 random operations on vLLM's own BlockPool, both queues hand out the same blocks."""
    twins = TwinPools(vllm, num_blocks=random.Random(seed).choice([17, 65, 257]), seed=seed)
    checked = 0
    while twins.operations < POOL_OPERATIONS // SEEDS:
        twins.operate()
        if twins.operations > checked + 500:
            checked = twins.operations
            free = [ids(pool.free_block_queue.get_all_free_blocks()) for pool in (twins.stock, twins.ours)]
            assert free[0] == free[1]
    assert twins.hooks.order.queue.ordered
    assert twins.hooks.order.queue.faults == 0


@pytest.mark.parametrize("seed", range(3))
def test_whole_schedulers_serve_the_same_hits_from_the_same_blocks(stock, extended, prompt, seed):
    """Two schedulers under random unlabelled traffic, short of blocks, with preemptions and aborts, never differ."""
    both = stock(num_blocks=64), extended(num_blocks=64)
    rng = random.Random(seed)
    heads = [prompt(rng.randint(0, 400), 1000 + i) for i in range(4)]
    for turn in range(300):
        tokens = rng.choice(heads) + prompt(rng.randint(1, 500), rng.randrange(40))
        output_tokens, steps, aborts = rng.randint(1, 150), rng.randint(0, 12), rng.random() < 0.1
        for simulation in both:
            request_id = simulation.add(tokens, max_tokens=output_tokens)
            for _ in range(steps):
                simulation.step()
            if aborts and request_id in simulation.scheduler.requests:
                simulation.abort(request_id)
        if turn % 50 == 49:
            for simulation in both:
                simulation.run()
            assert both[0].scheduler.reset_prefix_cache() is both[1].scheduler.reset_prefix_cache()
    for simulation in both:
        simulation.run()
    assert both[0].served == both[1].served
    assert both[0].preemptions == both[1].preemptions > 0
    assert sum(served.cached_tokens for served in both[0].served.values()) > 0
    assert both[1].call("status")["faults"] == 0


def test_labelled_traffic_leaves_no_trace_behind_a_reset(stock, extended, prompt):
    """Once the cache is reset, blocks that were retained, scored or released are like all others."""
    simulation = extended(num_blocks=64)
    for index, action in enumerate(("retain", "score", "release")):
        session = f"s{index}"
        simulation.serve(prompt(600, index), Identity(session=session, agent="planner"))
        payload = {"tenant": "default", "session": session, "ttl_s": 3600.0, "score": 0.9}
        actions = [{"action_id": "a", "action_type": f"agentrt.kv.{action}", "payload": payload}]
        (outcome,) = simulation.call("execute", message_id=session, actions=actions)["outcomes"]
        assert outcome["outcome"] == "accepted"
    assert simulation.scheduler.reset_prefix_cache()
    rng = random.Random(0)
    trace = [prompt(rng.randint(100, 900), rng.randrange(8)) for _ in range(200)]
    fresh = stock(num_blocks=64)
    assert [simulation.serve(tokens) for tokens in trace] == [fresh.serve(tokens) for tokens in trace]
    assert simulation.call("status")["faults"] == 0

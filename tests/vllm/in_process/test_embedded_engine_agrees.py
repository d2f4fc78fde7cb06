"""The embedded engine's scheduler and pool do what vLLM's own do, request by request and block by block."""

import random
from array import array

import pytest

from agentrt.engines.embedded.pool import BlockPool
from agentrt.engines.embedded.request import Request
from agentrt.engines.embedded.scheduler import Scheduler
from agentrt.kv.order import KVOrder

NUM_BLOCKS, BLOCK_SIZE_TOKENS = 64, 32
REPLY = 7
"""The token the simulated model always says."""


class Embedded:
    """The embedded engine's scheduler, with the limits the simulation gives vLLM's."""

    def __init__(self, num_blocks):
        order = KVOrder(num_blocks=num_blocks, block_size_tokens=BLOCK_SIZE_TOKENS, clock=lambda: 0.0)
        self.scheduler = Scheduler(BlockPool(order), max_batched_tokens=512, max_num_seqs=8)
        self.requests = []
        self.first_blocks = {}

    def add(self, tokens, max_tokens):
        name = str(len(self.requests) + 1)
        request = Request(request_id=name, prompt=array("I", tokens), reply=array("I", [REPLY] * max_tokens))
        self.scheduler.add(request)
        self.requests.append(request)

    def abort(self, index):
        self.scheduler.abort(self.requests[index])

    def step(self):
        self.scheduler.step()


def trace(seed, sessions=24):
    """Sessions of growing prompts over three shared heads, with replies, cancellations and idle steps."""
    rng = random.Random(seed)

    def fresh(count):
        return [rng.randrange(10, 1000) for _ in range(count)]

    heads = [fresh(rng.randrange(64, 200)) for _ in range(3)]
    history = [[*rng.choice(heads), *fresh(rng.randrange(10, 80))] for _ in range(sessions)]
    made = 0
    for _ in range(150):
        session = rng.randrange(sessions)
        reply = rng.randrange(1, 80)
        if len(history[session]) + reply < 1200:
            yield "add", list(history[session]), reply
            made += 1
            history[session] += [*[REPLY] * reply, *fresh(rng.randrange(5, 120))]
        if rng.random() < 0.05:
            yield "abort", rng.randrange(made), 0
        for _ in range(rng.choice([0, 0, 1, 5, 40])):
            yield "step", None, 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("num_blocks", [64, 40])
def test_the_embedded_engine_agrees_with_vllm(stock, seed, num_blocks):
    """On one trace both find the same tokens in the cache, preempt as often, and free blocks in the same order."""
    theirs, ours = stock(num_blocks), Embedded(num_blocks)
    for what, value, reply in trace(seed):
        if what == "add":
            theirs.add(value, max_tokens=reply)
            ours.add(value, reply)
        elif what == "abort":
            theirs.abort(f"r{value + 1}")
            ours.abort(value)
        elif theirs.scheduler.has_requests():
            theirs.step()
            ours.step()
    while theirs.scheduler.has_requests():
        theirs.step()
        ours.step()
    assert not ours.scheduler.has_work
    cached = {r.request_id: r.num_cached_tokens for r in ours.requests if r.num_cached_tokens is not None}
    assert cached == {name.removeprefix("r"): served.cached_tokens for name, served in theirs.served.items()}
    assert ours.scheduler.counters["preemptions"] == theirs.preemptions
    order = ours.scheduler._pool._order
    free = [(b.block_id, b.block_hash is None) for b in order.queue.get_all_free_blocks()]
    # vLLM's block 0 is its null block.
    queue = theirs.pool.free_block_queue.get_all_free_blocks()
    assert free == [(b.block_id - 1, b.block_hash is None) for b in queue]

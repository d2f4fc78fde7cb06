"""Fixtures for the embedded engine's parts."""

import random
from array import array

import pytest

from agentrt.engines.embedded.pool import BlockPool
from agentrt.engines.embedded.request import Request
from agentrt.engines.embedded.scheduler import Scheduler
from agentrt.kv.order import KVOrder


class VirtualClock:
    """Time that passes only when somebody sleeps."""

    now_s = 0.0

    def __call__(self):
        return self.now_s

    async def sleep(self, seconds):
        self.now_s += seconds


class Parts:
    """A pool and a scheduler on a virtual clock, and requests made of numbers."""

    def __init__(self, *, num_blocks=64, block_size_tokens=4, **limits):
        self.clock = VirtualClock()
        self.order = KVOrder(num_blocks=num_blocks, block_size_tokens=block_size_tokens, clock=self.clock)
        self.pool = BlockPool(self.order)
        self.scheduler = Scheduler(self.pool, **limits)
        self._made = 0

    def request(self, prompt, reply=1, **fields):
        """A request for `prompt` tokens (a number: that many fresh ones) and so many tokens of reply."""
        self._made += 1
        tokens = [self._made * 1000 + i for i in range(prompt)] if isinstance(prompt, int) else prompt
        return Request(request_id=str(self._made), prompt=array("I", tokens), reply=array("I", range(reply)), **fields)

    def add(self, *args, **kwargs):
        """Make a request and queue it."""
        request = self.request(*args, **kwargs)
        self.scheduler.add(request)
        return request

    def run(self, limit=10_000):
        """Step until nothing is left to do; the steps."""
        steps = []
        while self.scheduler.has_work:
            steps.append(self.scheduler.step())
            self.order.tick()
            assert len(steps) < limit, "requests are stuck"
        return steps


@pytest.fixture(scope="session")
def parts():
    """Build parts with the limits a test needs."""
    return Parts


@pytest.fixture
def rng():
    """Seeded randomness."""
    return random.Random(7)

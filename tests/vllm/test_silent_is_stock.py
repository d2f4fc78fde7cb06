"""A server with the plugin serves unlabelled traffic exactly as one without it."""

import random

import pytest

pytestmark = pytest.mark.vllm

REQUESTS = 80


def trace(seed=20):
    """Prompts of conversations that grow, in random order, several times the pool together."""
    rng = random.Random(seed)
    head = rng.choices(range(10, 1500), k=200)
    conversations = [head + rng.choices(range(10, 1500), k=rng.randint(100, 700)) for _ in range(9)]
    for _ in range(REQUESTS):
        conversation = rng.choice(conversations)
        conversation += rng.choices(range(10, 1500), k=rng.randint(1, 60))
        yield list(conversation)


def test_unlabelled_traffic_hits_what_it_hits_in_stock_vllm(stock_server, plugin_server):
    """The same 80 requests, short of blocks, find the same tokens cached on both servers, one by one."""
    hits = {}
    for server in (stock_server, plugin_server):
        server.reset_prefix_cache()
        hits[server.configuration.name] = [server.complete(prompt)["cached_tokens"] for prompt in trace()]
    assert hits["stock"] == hits["agentrt"]
    blocks_needed = sum(len(prompt) for prompt in {len(p): p for p in trace()}.values()) // 32
    assert blocks_needed > stock_server.num_blocks, "the trace must not fit, or there is nothing to compare"
    assert 0 < sum(hits["stock"]) < sum(len(prompt) for prompt in trace())
    assert plugin_server.control("status")["faults"] == 0

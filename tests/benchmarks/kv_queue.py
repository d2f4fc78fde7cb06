"""Cost of the ordered free queue per block, beside a plain LRU list.

    python tests/benchmarks/kv_queue.py [--blocks 100000] [--groups 1000] [--json]

Pairs are alternated in one process; figures are medians over rounds with their interquartile range.
"""

import argparse
import json
import random
import statistics
import time
from collections import OrderedDict

from agentrt.kv.blocks import FreeGroup
from agentrt.kv.queue import OrderedFreeQueue


class Block:
    __slots__ = ("block_hash", "block_id")

    def __init__(self, block_id):
        self.block_id, self.block_hash = block_id, block_id


class PlainLRU:
    """The least a Python LRU can be."""

    def __init__(self, blocks):
        self.blocks = OrderedDict((b.block_id, b) for b in blocks)

    def popleft_n(self, n):
        return [self.blocks.popitem(last=False)[1] for _ in range(n)]

    def append_n(self, blocks):
        for b in blocks:
            self.blocks[b.block_id] = b


def build(blocks, num_groups, rng):
    groups = [FreeGroup(rng.random()) for _ in range(num_groups)]
    group_of = [groups[i * num_groups // len(blocks)] for i in range(len(blocks))]
    queue = OrderedFreeQueue([], group_of)
    queue.append_n(blocks)
    return queue, groups


def churn_us_per_block(queue, batch, owners):
    """Each batch of victims is handed to another owner before it is freed again, as a request would."""
    group_of = getattr(queue, "_group_of", None)
    spent = 0.0
    for owner in owners:
        start = time.perf_counter()
        victims = queue.popleft_n(batch)
        spent += time.perf_counter() - start
        if group_of is not None:
            for block in victims:
                group_of[block.block_id] = owner
        start = time.perf_counter()
        queue.append_n(victims)
        spent += time.perf_counter() - start
    return spent / (batch * len(owners)) * 1e6


def revalue_us_per_group(queue, groups, rng):
    values = [rng.random() for _ in groups]
    start = time.perf_counter()
    for group, value in zip(groups, values, strict=True):
        queue.set_value(group, value)
    return (time.perf_counter() - start) / len(groups) * 1e6


def spread(values):
    quarters = statistics.quantiles(values, n=4)
    return {"median": round(statistics.median(values), 3), "iqr": round(quarters[2] - quarters[0], 3)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=100_000)
    parser.add_argument("--groups", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    blocks = [Block(i) for i in range(args.blocks)]
    queue, groups = build(blocks, args.groups, rng)
    silent, one = build(blocks, 1, rng)
    lru = PlainLRU(blocks)
    costs = {"ordered": [], "silent (one group)": [], "plain LRU": [], "revalue per group": []}
    for _ in range(args.rounds):
        for name, target, owned in (
            ("ordered", queue, groups),
            ("silent (one group)", silent, one),
            ("plain LRU", lru, one),
        ):
            costs[name].append(churn_us_per_block(target, 32, rng.choices(owned, k=1000)))
        costs["revalue per group"].append(revalue_us_per_group(queue, groups, rng))
    result = {name: spread(values) for name, values in costs.items()}
    if args.json:
        print(json.dumps({"blocks": args.blocks, "groups": args.groups, "us": result}))
        return
    print(f"{args.blocks} blocks, {args.groups} groups, pop + push in batches of 32, {args.rounds} rounds")
    for name, value in result.items():
        print(f"  {name:20} {value['median']:8.3f} us   (IQR {value['iqr']:.3f})")


if __name__ == "__main__":
    main()

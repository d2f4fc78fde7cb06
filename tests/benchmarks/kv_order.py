"""What the KV order adds to an engine's loop: per request, and per round of re-valuation.

    python tests/benchmarks/kv_order.py [--sessions 1000] [--agents 6] [--json]

Requests of `--blocks-per-prompt` blocks hit up to three quarters of them and compute the rest, as a conversation does.
Labelled and unlabelled requests alternate in one process; medians with their interquartile range, in microseconds.
"""

import argparse
import json
import random
import statistics
import time

from agentrt.identity import Identity
from agentrt.kv.order import KVOrder


class Block:
    __slots__ = ("block_hash", "block_id")

    def __init__(self, block_id):
        self.block_id, self.block_hash = block_id, None


class Bench:
    def __init__(self, args):
        self.args, self.rng, self.now = args, random.Random(args.seed), 0.0
        blocks = args.sessions * args.blocks_per_prompt
        self.order = KVOrder(num_blocks=blocks, block_size_tokens=16, clock=lambda: self.now)
        self.queue = self.order.take_over([Block(i) for i in range(blocks)])
        self.history, self.calls, self.spent = {}, 0, 0.0
        self.random = random.Random(0)

    def timed(self, function, *args, **kwargs):
        start = time.perf_counter()
        result = function(*args, **kwargs)
        self.spent += time.perf_counter() - start
        return result

    def request(self, session, agent, *, labelled):
        """One request; returns the microseconds spent in the order (the queue included)."""
        self.calls, self.spent, self.now = self.calls + 1, 0.0, self.now + 0.002
        call_id = str(self.calls)
        identity = Identity(session=session, agent=agent) if labelled else None
        hits = [b for b in self.history.get((session, agent), ()) if b.block_hash is not None]
        for block in hits:
            self.timed(self.queue.remove, block)
        new = self.timed(self.queue.popleft_n, self.args.blocks_per_prompt - len(hits))
        for block in new:
            if block.block_hash is not None:
                block.block_hash = None
                self.timed(self.order.block_evicted, block.block_id)
        self.timed(self.order.blocks_allocated, [b.block_id for b in new])
        fresh = [self.random.randbytes(32) for _ in new]
        hashes = [*(block.block_hash for block in hits), *fresh]
        tokens = range(len(hashes) * 16)
        self.timed(self.order.call_started, call_id, identity, hits, tokens, block_hashes=hashes)
        for block, block_hash in zip(new, fresh, strict=True):
            block.block_hash = block_hash
        self.timed(self.order.blocks_stored, call_id, new, first=len(hits), block_hashes=fresh)
        self.timed(self.order.call_ended, call_id)
        self.timed(self.queue.append_n, [*reversed(new), *reversed(hits)])
        self.history[session, agent] = [*hits, *new][: self.args.blocks_per_prompt * 3 // 4]
        return self.spent * 1e6

    def round(self):
        """One re-valuation of every group, in microseconds per group."""
        self.spent = 0.0
        self.timed(self.order.revalue)
        return self.spent * 1e6 / max(self.order.ownership.num_groups, 1)


def spread(values):
    quarters = statistics.quantiles(values, n=4)
    return {"median": round(statistics.median(values), 2), "iqr": round(quarters[2] - quarters[0], 2)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--agents", type=int, default=6)
    parser.add_argument("--blocks-per-prompt", type=int, default=100)
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    labelled, plain = Bench(args), Bench(args)
    costs = {"unlabelled request": [], "labelled request": [], "round, per group": []}
    for number in range(args.requests):
        session, agent = f"s{labelled.rng.randrange(args.sessions)}", f"agent-{labelled.rng.randrange(args.agents)}"
        ours = labelled.request(session, agent, labelled=True)
        stock = plain.request(session, agent, labelled=False)
        if number > args.requests // 2:
            costs["labelled request"].append(ours)
            costs["unlabelled request"].append(stock)
    costs["round, per group"] = [labelled.round() for _ in range(15)]
    result = {name: spread(values) for name, values in costs.items()}
    groups = labelled.order.ownership.num_groups
    if args.json:
        print(json.dumps({"groups": groups, "us": result}))
        return
    print(f"{args.sessions} sessions, {args.agents} agents, {args.blocks_per_prompt} blocks a prompt, {groups} groups")
    for name, value in result.items():
        print(f"  {name:20} {value['median']:9.2f} us   (IQR {value['iqr']:.2f})")


if __name__ == "__main__":
    main()

"""Engine-neutral KV order: owner groups, their value, and the ordered free queue.

The vLLM plugin and the embedded engine run this same code. Start at `order.KVOrder`.
"""

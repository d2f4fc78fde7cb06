"""Policies, one file each. They know the contract and the learners, never each other and never an engine."""

from agentrt.policies.prefix_cache import PrefixCache

__all__ = ["PrefixCache"]

"""Anchor chains: the tokens of each agent's shared prompt head, so that it can be computed ahead of need."""

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from agentrt.identity import AgentKey
from agentrt.kv.blocks import Block

MAX_CHAINS = 256
MAX_CHAIN_TOKENS = 32_768


class AnchorChain:
    """Token ids of one agent's anchor, and the blocks that held it when it was last seen, head first."""

    __slots__ = ("_blocks", "_hashes", "cache_salt", "token_ids")

    def __init__(self, token_ids: "array[int]", cache_salt: str | None, blocks: Sequence[Block]) -> None:
        self.token_ids = token_ids
        self.cache_salt = cache_salt
        self._blocks = list(blocks)
        self._hashes = [block.block_hash for block in blocks]

    @property
    def known_blocks(self) -> int:
        """Length of the anchor in blocks."""
        return len(self._blocks)

    @property
    def resident_blocks(self) -> int:
        """How many of them, from the head, are still cached where they were."""
        for index, (block, block_hash) in enumerate(zip(self._blocks, self._hashes, strict=True)):
            if block.block_hash != block_hash:
                return index
        return len(self._blocks)

    def refresh(self, blocks: Sequence[Block]) -> None:
        """The head of the chain now lies in these blocks."""
        self._blocks[: len(blocks)] = blocks
        self._hashes[: len(blocks)] = [block.block_hash for block in blocks]


class AnchorChains:
    """Chains by agent, bounded to `MAX_CHAINS` (least recently learned leave)."""

    def __init__(self, block_size_tokens: int) -> None:
        self._block_size_tokens = block_size_tokens
        self._chains: OrderedDict[AgentKey, AnchorChain] = OrderedDict()

    def get(self, key: AgentKey) -> AnchorChain | None:
        """The chain of an agent, or None when no two sessions have shared one."""
        return self._chains.get(key)

    def remember(
        self, key: AgentKey, shared: Sequence[Block], token_ids: Sequence[int], cache_salt: str | None
    ) -> None:
        """A call's leading blocks `shared` belong to an anchor; `token_ids` is its prompt."""
        shared = shared[: MAX_CHAIN_TOKENS // self._block_size_tokens]
        tokens = len(shared) * self._block_size_tokens
        if not tokens or len(token_ids) < tokens:
            return
        head = array("q", token_ids[:tokens])
        known = self._chains.get(key)
        # A shorter hit on the same anchor means that its tail was evicted, not that the anchor shrank.
        if known is not None and known.cache_salt == cache_salt and known.token_ids[:tokens] == head:
            known.refresh(shared)
            return
        self._chains[key] = AnchorChain(head, cache_salt, shared)
        self._chains.move_to_end(key)
        while len(self._chains) > MAX_CHAINS:
            self._chains.popitem(last=False)

    def rows(self) -> list[dict[str, Any]]:
        """`wire.Anchor` fields of every chain."""
        return [
            {**key._asdict(), "known_blocks": chain.known_blocks, "resident_blocks": chain.resident_blocks}
            for key, chain in self._chains.items()
        ]

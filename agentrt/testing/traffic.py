"""Traffic for the checks of an engine: prompts measured in blocks, sessions that clean up after themselves, floods.

Everything is sized by the engine's own block size and pool, so the same checks hold on 64 blocks or on 64 thousand.
"""

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import httpx

from agentrt.act import Outcome
from agentrt.engines.base import Engine
from agentrt.engines.wire import LABEL_KEY, Action
from agentrt.identity import Identity

_TOKEN_IDS = range(3, 501)
"""Ids that any vocabulary has."""

_FLOOD_SHARE = 8
"""A flood comes in requests of this fraction of the pool."""


class Complete(Protocol):
    """Sends one completion and returns its `usage`."""

    def __call__(
        self, prompt_token_ids: Sequence[int], identity: Identity | None = None, *, max_tokens: int = 1
    ) -> dict[str, Any]:
        """`usage` of a completion of this prompt, labelled with `identity` if given."""


class HTTPCompletions:
    """`Complete` over `POST /v1/completions`, with the label in `vllm_xargs`."""

    def __init__(self, base_url: str, *, api_key: str | None = None, timeout_s: float = 60.0) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(base_url=base_url, headers=headers, timeout=timeout_s)
        card = self._get("/v1/models")["data"][0]
        self._model = card["id"]
        self.max_model_len: int | None = card.get("max_model_len")

    def __call__(
        self, prompt_token_ids: Sequence[int], identity: Identity | None = None, *, max_tokens: int = 1
    ) -> dict[str, Any]:
        """`usage` of the answer. Raises AssertionError with the server's words when it is refused."""
        label = {} if identity is None else {"vllm_xargs": {LABEL_KEY: identity.to_label()}}
        body = {"model": self._model, "prompt": list(prompt_token_ids), "max_tokens": max_tokens, "temperature": 0}
        response = self._client.post("/v1/completions", json={**body, **label})
        assert response.status_code == httpx.codes.OK, response.text
        usage = response.json()["usage"]
        assert isinstance(usage, dict)
        return usage

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def _get(self, path: str) -> Any:
        return self._client.get(path).raise_for_status().json()


class Traffic:
    """What a check says to an engine. Names and prompts are fresh, so checks may share a server."""

    def __init__(self, engine: Engine, complete: Complete) -> None:
        capabilities = engine.capabilities()
        self.engine = engine
        self.num_blocks = capabilities.num_blocks
        self.block_size = capabilities.block_size_tokens
        self._complete = complete
        self._random = random.Random(uuid.uuid4().int)
        self._told: list[Identity] = []
        self.workload = self.name("workload")
        """Fresh too, so that nothing an engine learned from one check bears on the next."""

    def identity(self, *, agent: str | None = None, session: str | None = None) -> Identity:
        """A caller; names not given are fresh."""
        made = Identity(
            session=session or self.name("session"), agent=agent or self.name("agent"), workload=self.workload
        )
        self._told.append(made)
        return made

    def name(self, kind: str) -> str:
        """A name nobody used before."""
        return f"{kind}-{uuid.uuid4().hex[:12]}"

    def tokens(self, blocks: int) -> list[int]:
        """Fresh tokens that fill so many blocks exactly."""
        return self._random.choices(_TOKEN_IDS, k=blocks * self.block_size)

    def prompt(self, blocks: int, *, head: Sequence[int] = ()) -> list[int]:
        """A prompt of `head` and fresh tokens, so many blocks long and one token more.

        With the token more, all those blocks can be found in the cache when the prompt comes again.
        """
        fresh = blocks - len(head) // self.block_size
        return [*head, *self.tokens(fresh), self._random.choice(_TOKEN_IDS)]

    def cached(self, prompt: Sequence[int], identity: Identity | None = None, *, max_tokens: int = 1) -> int:
        """Send a prompt; how many of its tokens the engine took from its cache."""
        details = self._complete(prompt, identity, max_tokens=max_tokens).get("prompt_tokens_details")
        assert details is not None, "the server does not report cached tokens (vLLM: --enable-prompt-tokens-details)"
        return int(details["cached_tokens"] or 0)

    def flood(self, blocks: int) -> None:
        """Unlabelled prompts that take so many blocks, none of which will be asked for again."""
        share = max(1, self.num_blocks // _FLOOD_SHARE)
        for start in range(0, blocks, share):
            self._complete(self.tokens(min(share, blocks - start)))

    def fill(self) -> None:
        """Leave no block uncached, and nothing that was worth less than new unlabelled traffic."""
        self.flood(self.num_blocks)

    def act(self, action_type: str, **payload: Any) -> Outcome:
        """Carry out one action."""
        return self.act_all([(action_type, payload)])[0]

    def act_all(self, actions: Iterable[tuple[str, dict[str, Any]]], *, message_id: str | None = None) -> list[Outcome]:
        """Carry out actions as one message."""
        listed = [
            Action(action_id=str(index), action_type=action_type, payload=payload)
            for index, (action_type, payload) in enumerate(actions)
        ]
        return self.engine.execute(listed, message_id=message_id)

    def keep(self, identity: Identity) -> None:
        """Give a session's blocks the highest score, so that a check does not rest on what the engine believes."""
        self.act("agentrt.kv.score", session=identity.session, score=1.0)

    def blocks_of(self, *, session: str | None = None, agent: str | None = None, kind: str | None = None) -> int:
        """Resident blocks of a session or an agent."""
        groups = self.engine.residency(session=session, agent=agent)
        return sum(group.blocks for group in groups if kind in {None, group.kind})

    def clean_up(self) -> None:
        """Make everything this traffic left behind the next victim, for the sake of the next check."""
        for identity in self._told:
            self.act("agentrt.signal.run_ended", session=identity.session)
            self.act("agentrt.kv.release", session=identity.session)
            self.act("agentrt.kv.score", agent=identity.agent, workload=self.workload, score=0.0)


def eventually(condition: Callable[[], object], *, timeout_s: float = 20.0, why: str = "") -> None:
    """Ask until the answer is true; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, why or "it did not come true in time"
        pause.wait(0.01)

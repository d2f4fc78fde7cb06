"""From an OpenAI request to a request for the scheduler and the answer it will produce."""

import hashlib
import logging
import random
import uuid
from array import array
from collections.abc import Mapping
from dataclasses import dataclass

from agentrt.engines.embedded.answer import Answer, answer_of
from agentrt.engines.embedded.openai import ChatRequest, CompletionRequest, GenerationRequest, NamedTool
from agentrt.engines.embedded.request import Request
from agentrt.engines.embedded.responder import Responder, ResponderRequest
from agentrt.engines.embedded.template import prompt_tokens
from agentrt.engines.embedded.tokenizer import VOCABULARY_SIZE, encode
from agentrt.engines.wire import LABEL_HEADER, LABEL_KEY
from agentrt.errors import EngineError
from agentrt.identity import Identity

logger = logging.getLogger("agentrt")


class BadRequest(Exception):  # noqa: N818 - an answer, not a fault
    """The client asked for something that cannot be; answered 400 with the field at fault."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.message, self.field = message, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One generation: what the scheduler runs, and what its tokens say."""

    request: Request
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMaker:
    """Turns requests into jobs. The same prompt always gets the same answer."""

    responder: Responder
    seed: int
    max_model_len: int
    labelled: bool
    """Whether identities are looked at; not in stock mode."""

    def chat(self, asked: ChatRequest, headers: Mapping[str, str]) -> Job:
        """Raises BadRequest."""
        messages = [message.model_dump(exclude_none=True) for message in asked.messages]
        tools = [tool.model_dump(exclude_none=True) for tool in asked.tools or ()]
        choice = asked.tool_choice
        if choice == "required" and not tools:
            raise BadRequest("tool_choice is 'required' but no tools are given", "tool_choice")
        if isinstance(choice, NamedTool) and choice.function.name not in {t["function"]["name"] for t in tools}:
            raise BadRequest(f"tool_choice names {choice.function.name!r}, which is not in tools", "tool_choice")
        script = ResponderRequest(
            messages=messages,
            tools=tools,
            tool_choice=choice.model_dump() if isinstance(choice, NamedTool) else choice,
            response_format=asked.response_format,
        )
        limit = asked.max_completion_tokens or asked.max_tokens
        return self._job(asked, prompt_tokens(messages, tools), limit, script, headers)

    def completion(self, asked: CompletionRequest, headers: Mapping[str, str]) -> Job:
        """Raises BadRequest."""
        if isinstance(asked.prompt, str):
            prompt = array("I", encode(asked.prompt))
        elif all(0 <= token < VOCABULARY_SIZE for token in asked.prompt):
            prompt = array("I", asked.prompt)
        else:
            raise BadRequest(f"token ids must be between 0 and {VOCABULARY_SIZE - 1}", "prompt")
        return self._job(asked, prompt, asked.max_tokens, ResponderRequest(), headers)

    def _job(
        self,
        asked: GenerationRequest,
        prompt: "array[int]",
        limit: int | None,
        script: ResponderRequest,
        headers: Mapping[str, str],
    ) -> Job:
        if asked.n not in {None, 1}:
            raise BadRequest(f"n={asked.n}: this engine gives one choice per request", "n")
        room = self._room_after(prompt, limit)
        answer = self._answer(script.limited_to(room), prompt, asked)
        return Job(
            request=Request(
                request_id=uuid.uuid4().hex,
                prompt=prompt,
                reply=answer.tokens,
                identity=_identity_of(asked, headers) if self.labelled else None,
                cache_salt=asked.cache_salt,
                priority=asked.priority,
            ),
            answer=answer,
        )

    def _answer(self, script: ResponderRequest, prompt: "array[int]", asked: GenerationRequest) -> Answer:
        try:
            reply = self.responder.reply(script, self._rng(prompt))
            return answer_of(reply, max_tokens=script.max_tokens, stops=asked.stops)
        except Exception as error:
            logger.exception("agentrt: the responder of the embedded engine failed")
            raise EngineError(f"the responder failed: {error!r}") from error

    def _room_after(self, prompt: "array[int]", limit: int | None) -> int:
        """Tokens a reply may have."""
        if not prompt:
            raise BadRequest("the prompt is empty", "prompt")
        room = self.max_model_len - len(prompt)
        if room < (limit or 1):
            raise BadRequest(
                f"the maximum context length is {self.max_model_len} tokens, but the prompt has {len(prompt)} and "
                f"{limit or 1} more are requested",
                "max_tokens" if limit and room > 0 else "prompt",
            )
        return limit or room

    def _rng(self, prompt: "array[int]") -> random.Random:
        digest = hashlib.sha256(f"{self.seed}:".encode() + prompt.tobytes()).digest()
        return random.Random(digest)


def _identity_of(asked: GenerationRequest, headers: Mapping[str, str]) -> Identity | None:
    """The caller: the label in `vllm_xargs`, else the one in the header. A session id alone names no agent."""
    label = (asked.vllm_xargs or {}).get(LABEL_KEY)
    return Identity.from_label(label) or Identity.from_label(headers.get(LABEL_HEADER))

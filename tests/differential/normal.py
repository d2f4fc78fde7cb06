"""What a user sees, as plain data in which only ids and times are taken out."""

import dataclasses
import re
from collections.abc import Mapping
from types import FunctionType, MethodType
from typing import Any
from uuid import UUID

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import Interrupt
from pydantic import BaseModel

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ID = re.compile(rf"\b{_UUID}\b|\b[0-9a-f]{{32}}\b")
_TIME = re.compile(r"\b\d{4}-\d\d-\d\dT[\d:.]+(?:\+00:00|Z)?|\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT|(?<=elapsed: )[\d.]+")
_VERSION = re.compile(r"\b(\d{32})\.\d+\.\d+(?:e-\d+)?")  # InMemorySaver adds a random part to channel versions
_NODE_AT_FAULT = re.compile(r'(No synchronous function provided to )"\w+"')
_OF_SERVER = re.compile(r"\b(c-|call_)\d+\b")  # counted over all requests
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
# LangGraph's own machinery, and the callbacks, which are compared by what they are told
_LEFT_OUT = re.compile(r"callbacks|__pregel_.*")


class Normal:
    """Names ids by the order in which they appear, so that equal ids stay equal; or not at all, when unordered."""

    def __init__(self, *, unordered: bool = False) -> None:
        self._unordered = unordered
        self._ids: dict[str, str] = {}
        self._constant: set[str] = set()
        self._late = False

    def __call__(self, value: Any) -> Any:  # noqa: C901, PLR0911 - one kind of value each
        match value:
            case None | bool() | int() | float() | bytes():
                return value
            case str() | UUID():
                return self._text(str(value))
            case CheckpointTuple():
                return self._checkpoint(value)
            case Mapping():
                kept = {key: item for key, item in value.items() if not _LEFT_OUT.fullmatch(str(key))}
                return {self._text(str(key)): self(item) for key, item in kept.items()}
            case list() | tuple():
                return self._sequence(value)
            case set() | frozenset():
                return sorted((self(item) for item in value), key=repr)
            case BaseException():
                notes = list(getattr(value, "__notes__", ()))
                return [type(value).__qualname__, self._text(str(value)), self(notes), self(value.__cause__)]
            case BaseMessage() if self._late and (value.id is None or _ID.search(value.id)):
                return [type(value).__qualname__, self(value.model_dump(exclude={"id"}))]
            case BaseModel():
                return [type(value).__qualname__, self(value.model_dump())]
            case type() | FunctionType() | MethodType():
                return value.__qualname__
            case _ if dataclasses.is_dataclass(value):
                fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
                return [type(value).__qualname__, self(fields)]
            case _:
                return self._text(repr(value))

    def events(self, values: Any) -> Any:
        """Things that happened; sorted when their order says nothing."""
        told = [self(value) for value in values]
        return sorted(told, key=repr) if self._unordered else told

    def kept(self, checkpoints: Any) -> Any:
        """What a checkpointer holds. LangGraph writes messages while it gives them their ids, or before."""
        self._late = True
        told = self.events(checkpoints)
        self._late = False
        return told

    def _sequence(self, value: Any) -> Any:
        if hasattr(value, "_asdict"):
            return [type(value).__qualname__, self(value._asdict())]
        told = [self(item) for item in value]
        if self._unordered and told[:1] == ["__pregel_push"]:
            # Which of several tasks called at once gets which number is a race of LangGraph's own.
            told = ["n" if isinstance(item, int) and not isinstance(item, bool) else item for item in told]
        return sorted(told, key=repr) if self._unordered and isinstance(next(iter(value), None), Interrupt) else told

    def _checkpoint(self, value: CheckpointTuple) -> Any:
        return [
            *(self(item) for item in value._replace(pending_writes=None)),
            self.events(value.pending_writes or ()),
        ]

    def _text(self, text: str) -> str:
        if text in self._constant:
            return text
        told = _TIME.sub("<time>", _ADDRESS.sub("", text))
        told = _ID.sub(self._name, _VERSION.sub(r"\1", told))
        if self._unordered:
            told = _NODE_AT_FAULT.sub(r"\1<node>", _OF_SERVER.sub(r"\1n", told))
        if told == text:
            self._constant.add(text)
        return told

    def _name(self, found: re.Match[str]) -> str:
        return "<id>" if self._unordered else self._ids.setdefault(found[0], f"<id {len(self._ids)}>")

"""Making, reading and validating action messages: the same rules over HTTP and in process."""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from pydantic import ValidationError

from agentrt.engines.wire import PAYLOADS, PROTOCOL_VERSION, Action, ActionMessage
from agentrt.errors import ActionRefused

_MAX_FIELD_CHARS = 200
"""A field name in an error may be the client's own key: it is echoed, but not at any length."""


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """A request is answered with an error status, an explanation and the field at fault."""

    def __init__(self, status: int, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.field = status, message, field


def message_bytes(actions: Sequence[Action], message_id: str | None) -> bytes:
    """A message of these actions as JSON, with a fresh id if none is given. Raises ActionRefused."""
    try:
        message = ActionMessage(
            protocol_version=PROTOCOL_VERSION,
            message_id=uuid.uuid4().hex if message_id is None else message_id,
            actions=list(actions),
        )
        return message.model_dump_json().encode()
    except ValidationError as error:
        raise ActionRefused(str(malformed(error))) from None
    except ValueError as error:
        raise ActionRefused(f"actions: a payload is not JSON: {error}") from None


def parse_message(body: bytes, *, max_actions: int) -> tuple[str, list[dict[str, Any]]]:
    """Message id and actions with validated payloads, ready for the executor. Raises Refusal."""
    try:
        raw = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {error}", "body") from None
    if not isinstance(raw, dict):
        raise Refusal(422, "the body should be a JSON object", "body")
    _check_protocol(raw)
    actions = raw.get("actions")
    if isinstance(actions, list) and len(actions) > max_actions:
        raise Refusal(413, f"{len(actions)} actions, {max_actions} are allowed (AGENTRT_MAX_ACTIONS)", "actions")
    try:
        message = ActionMessage.model_validate(raw)
    except ValidationError as error:
        raise malformed(error) from None
    return message.message_id, [_validated(i, action) for i, action in enumerate(message.actions)]


def _check_protocol(raw: Mapping[str, Any]) -> None:
    """Look at the version before anything else: another protocol may have another shape."""
    theirs = raw.get("protocol_version", PROTOCOL_VERSION)
    if isinstance(theirs, str) and theirs != PROTOCOL_VERSION:
        raise Refusal(
            409,
            f"this server speaks agentrt protocol {PROTOCOL_VERSION}, the message is protocol {theirs[:20]}; "
            "install the same agentrt version on both sides",
            "protocol_version",
        )


def _validated(index: int, action: Action) -> dict[str, Any]:
    model = PAYLOADS.get(action.action_type)
    payload: dict[str, Any] = {}
    if model is not None:
        try:
            payload = model.model_validate(action.payload).model_dump()
        except ValidationError as error:
            raise malformed(error, "actions", index, "payload") from None
    return {**action.model_dump(exclude={"payload"}), "payload": payload}


def malformed(error: ValidationError, *where: str | int) -> Refusal:
    """The refusal of what a model would not take, with the first field at fault."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    field = _path((*where, *first["loc"]))
    return Refusal(422, f"{field}: {first['msg']}{more}", field)


def _path(parts: Sequence[str | int]) -> str:
    path = ".".join(str(part) for part in parts) or "body"
    return path if len(path) <= _MAX_FIELD_CHARS else f"{path[:_MAX_FIELD_CHARS]}..."


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def too_large(limit_bytes: int) -> Refusal:
    """The refusal of a body over the limit."""
    return Refusal(
        413, f"the body is larger than {limit_bytes} bytes (AGENTRT_MAX_BODY_BYTES); send it in parts", "body"
    )

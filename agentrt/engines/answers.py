"""What a server's answer means when it is not the one hoped for: an error that says what to do."""

from pydantic import BaseModel, ValidationError

from agentrt.engines.wire import PREFIX
from agentrt.errors import (
    ActionRefused,
    EngineError,
    EngineUnreachable,
    KeyRefused,
    PluginAbsent,
    ProtocolMismatch,
)


def plugin_absent(base_url: str) -> PluginAbsent:
    """The error for a server without our routes."""
    return PluginAbsent(
        f"a server answers at {base_url}, but without {PREFIX}: install agentrt in vLLM's environment and start "
        "it with VLLM_PLUGINS=agentrt"
    )


def error_of(base_url: str, status: int, body: bytes) -> EngineError:
    """What an answer other than 200 means."""
    said = _message_in(body)
    match status:
        case 401 | 403:
            return KeyRefused(f"{base_url} refuses the API key; give the value of the server's --api-key")
        case 404 | 405:
            return plugin_absent(base_url)
        case 409:
            return ProtocolMismatch(f"{base_url}: {said}")
        case 400 | 413 | 422:
            return ActionRefused(f"{base_url} refused the message ({status}): {said}")
        case 502 | 503 | 504:
            return EngineUnreachable(f"{base_url} cannot answer now ({status}): {said}")
        case _:
            return EngineError(f"{base_url} answered {status}: {said}")


def _message_in(body: bytes) -> str:
    """The message of an error body, with its field, or the beginning of whatever came."""
    try:
        error = _ErrorBody.model_validate_json(body).error
    except ValidationError:
        return repr(body[:200])
    named = error.field is None or error.field in error.message
    return error.message if named else f"{error.field}: {error.message}"


def protocol_in(body: bytes) -> str | None:
    """The protocol version of capabilities whose other fields we cannot read."""
    try:
        return _AnyProtocol.model_validate_json(body).protocol_version
    except ValidationError:
        return None


class _AnyProtocol(BaseModel):
    protocol_version: str


class _ErrorDetail(BaseModel):
    message: str
    field: str | None = None


class _ErrorBody(BaseModel):
    error: _ErrorDetail

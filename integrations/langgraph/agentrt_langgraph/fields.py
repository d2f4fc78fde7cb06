"""What is added to one request. The user's own values always win, and nothing of theirs is changed in place."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from agentrt.engines.wire import LABEL_HEADER, LABEL_KEY, SESSION_HEADER
from agentrt.identity import Identity
from agentrt.plan import RequestPlan

XARGS = "vllm_xargs"
PRIORITY = "priority"
SESSION_FIELD = "session_id"
SALT = "cache_salt"
_SESSION_HEADER, _LABEL_HEADER = SESSION_HEADER.lower(), LABEL_HEADER.lower()
_PATHS = ("/chat/completions", "/completions", "/responses")


@dataclass(slots=True)
class Addition:
    """New header and body fields; either may be empty."""

    headers: dict[str, str]
    body: dict[str, Any]


def is_generation(method: str, path: str) -> bool:
    """Whether a request asks a model to generate; no other request is touched."""
    return method.upper() == "POST" and path.partition("?")[0].rstrip("/").endswith(_PATHS)


def addition(identity: Identity, plan: RequestPlan, body: Mapping[str, Any], header_names: Iterable[str]) -> Addition:
    """What this request gets. `body` is all the user sends; a field of theirs that we extend is a copy."""
    taken = {name.lower() for name in header_names}
    headers: dict[str, str] = {}
    fields: dict[str, Any] = {}
    if SESSION_FIELD not in body and _SESSION_HEADER not in taken:
        headers[SESSION_HEADER] = header_value(identity.session)
    xargs = body.get(XARGS)
    theirs = _LABEL_HEADER in taken or (isinstance(xargs, Mapping) and LABEL_KEY in xargs)
    if not theirs:
        label = identity.to_label(**plan.fields())
        if xargs is None:
            fields[XARGS] = {LABEL_KEY: label}
        elif isinstance(xargs, Mapping):
            fields[XARGS] = {LABEL_KEY: label, **xargs}
        else:  # the user's own value, whatever it is, stays
            headers[LABEL_HEADER] = label
    if plan.priority != 0 and PRIORITY not in body:
        fields[PRIORITY] = -int(plan.priority)  # vLLM serves lower numbers first
    if plan.cache_salt is not None and SALT not in body:
        fields[SALT] = plan.cache_salt
    return Addition(headers, fields)


def header_value(text: str) -> str:
    """A header value for any text: a character that HTTP refuses would break the user's request."""
    if text.isascii() and text.isprintable() and text == text.strip():
        return text
    return quote(text, safe="")

"""The way in when the OpenAI client's hook is gone: the public `send` of the HTTP clients under it.

Both libraries are covered: the OpenAI client uses httpx2 since 2.54 and httpx before, and either may be the
user's own. The request is already serialised here, so the body is parsed and written again.
"""

import functools
import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

from agentrt_langgraph.fields import Addition, is_generation

RequestAddition = Callable[[str, Mapping[str, Any], Iterable[str], str | None], Addition | None]
_LIBRARIES = ("httpx", "httpx2")


def patch(request_addition: RequestAddition) -> Iterator[Callable[[], None]]:
    """Wrap `Client.send` and `AsyncClient.send`; yields what undoes each."""
    for name in _LIBRARIES:
        try:
            library = importlib.import_module(name)
        except ImportError:
            continue
        yield _wrap(library, "Client", request_addition)
        yield _wrap(library, "AsyncClient", request_addition)


def _wrap(library: ModuleType, client_name: str, request_addition: RequestAddition) -> Callable[[], None]:
    client = getattr(library, client_name)
    original = client.send

    @functools.wraps(original)
    def send(self: Any, request: Any, **kwargs: Any) -> Any:
        return original(self, _labelled(library, request, request_addition), **kwargs)

    client.send = send
    return functools.partial(setattr, client, "send", original)


def _labelled(library: ModuleType, request: Any, request_addition: RequestAddition) -> Any:
    """The request with our fields, as a new object; the same object when it is not ours to touch."""
    try:
        if not is_generation(request.method, request.url.path):
            return request
        body = json.loads(request.content)
        if not isinstance(body, dict):
            return request
        added = request_addition(str(request.url), body, tuple(request.headers), None)
        if added is None:
            return request
        headers = [
            (name, value)
            for name, value in request.headers.multi_items()
            if name.lower() not in ("content-length", "transfer-encoding")
        ]
        return library.Request(
            request.method,
            request.url,
            headers=[*headers, *added.headers.items()],
            content=json.dumps({**body, **added.body}).encode(),
            extensions=request.extensions,
        )
    except Exception:
        # Streamed uploads cannot be read here, and are no generation requests of a known client.
        return request

"""Puts identity and plan on the requests of the OpenAI client, whoever made the client and whenever.

The hook is `_prepare_options`, documented by the SDK as the place to change a request's options: it sees every
request of LangChain and raw clients, sync, async and streaming, once per attempt. A self-test proves that it is
still called; if not, the HTTP client's public `send` is used instead (`fallback.py`).
"""

import functools
import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, cast

from agentrt.ambient import Labelling, note_labelling
from agentrt.identity import Identity
from agentrt_langgraph import fallback, selftest
from agentrt_langgraph.fields import Addition, addition, is_generation
from agentrt_langgraph.port import RuntimePort

logger = logging.getLogger("agentrt")

MAX_URLS = 256
MAX_CLIENT_TYPES = 256
_HOOK = "_prepare_options"


class RequestSource(Protocol):
    """Knows whose request is being sent in the current context."""

    @property
    def runtime(self) -> RuntimePort:
        """Says which servers it is for, and what to plan."""

    def request_identity(self, request_key: str | None) -> Identity | None:
        """The caller, or None when it is nobody we know."""


_lock = threading.RLock()
_sources: tuple[weakref.ref[Any], ...] = ()
_url_texts: dict[int, tuple[Any, str]] = {}
_undo: list[Callable[[], None]] = []
_mode: Labelling = "off"
_proven: bool | None = None
"""What the self-test found in this process; None before it ran."""


def enable(source: RequestSource) -> None:
    """Let this source label requests, from now on. Idempotent; never raises."""
    global _sources, _mode  # noqa: PLW0603 - one patch per process, whoever asks
    with _lock:
        alive = [ref for ref in _sources if ref() is not None]
        if not any(ref() is source for ref in alive):
            alive.append(weakref.ref(source))
        _sources = tuple(alive)
        try:
            _mode = _mode if _mode == "fallback" else _patch()
        except Exception as error:
            _restore()
            _mode = "absent"
            source.runtime.fault("inject", error)
        note_labelling(_mode)


def disable() -> None:
    """Take everything of ours out of the process's HTTP clients. Idempotent."""
    global _sources, _mode
    with _lock:
        _restore()
        _sources, _mode = (), "off"
        note_labelling(_mode)


def trial() -> Labelling:
    """How requests would be labelled in this environment. For a process that instruments nothing itself."""
    enable(selftest.Probe())
    found = mode()
    disable()
    return found


def mode() -> Labelling:
    """How requests are labelled now: `absent` means that there is no OpenAI client to label."""
    return _mode


def labels(source: RequestSource) -> bool:
    """Whether requests of this source are labelled by us."""
    return _mode in ("hook", "fallback") and any(ref() is source for ref in _sources)


def _patch() -> Labelling:
    global _proven  # noqa: PLW0603 - as above
    try:
        from openai._base_client import AsyncAPIClient, SyncAPIClient  # noqa: PLC0415 - optional
    except ImportError:
        return "absent"
    # Again each time: a subclass may have come since.
    for root, is_async in ((SyncAPIClient, False), (AsyncAPIClient, True)):
        for client in {*_subclasses(root)}:
            _wrap(client, is_async=is_async)
    if _proven is None:
        _proven = _self_test()
    if _proven:
        return "hook"
    _restore()
    _undo.extend(fallback.patch(request_addition))
    logger.warning(
        "agentrt: this version of the openai package does not call its request hook; "
        "labelling requests at the HTTP client instead, which costs more for long prompts"
    )
    return "fallback"


def _self_test() -> bool:
    global _sources  # noqa: PLW0603
    probe = selftest.Probe()
    before = _sources
    _sources = (weakref.ref(probe),)
    try:
        return probe.reaches_the_wire()
    finally:
        _sources = before


def _restore() -> None:
    while _undo:
        _undo.pop()()
    _outermost.cache_clear()


def _subclasses(root: type[Any]) -> Iterator[type[Any]]:
    yield root
    for child in root.__subclasses__():
        yield from _subclasses(child)


def _wrap(client: type[Any], *, is_async: bool) -> None:
    """Wrap the hook where this class defines it itself: overrides need not call their parent's."""
    original = client.__dict__.get(_HOOK)
    if original is None or hasattr(original, "__agentrt__"):
        return

    async def then_add(self: Any, prepared: Any) -> Any:
        return _add(self, await prepared)

    # An override may call its parent's hook: only the outermost adds, after the SDK is done.
    @functools.wraps(original)
    def prepare(self: Any, options: Any) -> Any:
        options = original(self, options)
        if _outermost(cast("Any", type(self))) is not client:
            return options
        return then_add(self, options) if is_async else _add(self, options)

    prepare.__agentrt__ = True  # type: ignore[attr-defined]
    setattr(client, _HOOK, prepare)
    _undo.append(functools.partial(setattr, client, _HOOK, original))
    _outermost.cache_clear()


@functools.lru_cache(MAX_CLIENT_TYPES)
def _outermost(client: Any) -> type[Any] | None:
    """Of the classes whose hook we wrapped, the one that this type of client calls first."""
    return next((base for base in client.__mro__ if hasattr(base.__dict__.get(_HOOK), "__agentrt__")), None)


def _add(client: Any, options: Any) -> Any:
    """Add our fields to the options of one request. Dictionaries are shared between retries: only copies change."""
    try:
        if not is_generation(options.method, options.url) or not isinstance(options.json_data, dict):
            return options
        extra = options.extra_json or {}
        url = options.url if "://" in options.url else _text(client.base_url)
        given = options.headers if isinstance(options.headers, dict) else {}
        body = {**options.json_data, **extra} if extra else options.json_data
        added = request_addition(url, body, (*_client_headers(client), *given), options.idempotency_key)
        if added is None:
            return options
        options.headers = {**given, **added.headers}
        # `extra_json` is merged over the rest by the SDK, field by field: ours must be there to stay.
        if added.body:
            options.extra_json = {**extra, **added.body}
    except Exception as error:
        _fault(error)
    return options


def _text(url: Any) -> str:
    """A client's base URL as text. The object is the same for all its requests, and slow to write out."""
    known = _url_texts.get(id(url))
    if known is None or known[0] is not url:
        if len(_url_texts) >= MAX_URLS:
            _url_texts.clear()
        known = _url_texts[id(url)] = (url, str(url))
    return known[1]


def _client_headers(client: Any) -> Iterable[str]:
    """Names of headers the user set on the client. The public property builds all headers, to tell these."""
    custom: Iterable[str] | None = getattr(client, "_custom_headers", None)
    return custom if custom is not None else tuple(client.default_headers)


def request_addition(
    url: str, body: Mapping[str, Any], header_names: Iterable[str], request_key: str | None
) -> Addition | None:
    """What to add to a request to this URL; None when it is not ours to touch. Never raises."""
    for ref in _sources:
        source: RequestSource | None = ref()
        if source is None:
            continue
        try:
            if source.runtime.carries(url):
                identity = source.request_identity(request_key)
                if identity is not None:
                    return addition(identity, source.runtime.plan(identity), body, header_names)
        except Exception as error:
            source.runtime.fault("inject", error)
    return None


def _fault(error: Exception) -> None:
    for ref in _sources:
        source: RequestSource | None = ref()
        if source is not None:
            source.runtime.fault("inject", error)
            return

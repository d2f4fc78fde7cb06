"""Proof, once per process, that the hook is reached: a dummy request through real clients, without a network."""

import asyncio
import contextlib
import sys
import threading
from typing import Any

from agentrt.config import Settings
from agentrt.engines.wire import LABEL_KEY, SESSION_HEADER
from agentrt.events import Event
from agentrt.gates import ToolGates
from agentrt.identity import Identity
from agentrt.plan import NO_PLAN, RequestPlan

_URL = "http://agentrt-self-test.invalid/v1"
_IDENTITY = Identity(session="self-test", agent="self-test")
_TIMEOUT_S = 10.0


class _ProbeRuntime:
    """A runtime whose engine is the mock transport."""

    settings = Settings.model_construct()
    tool_gates = ToolGates()

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def clock(self) -> float:
        return 0.0

    def emit(self, event: Event) -> None:
        del event

    def plan(self, identity: Identity) -> RequestPlan:
        del identity
        return NO_PLAN

    def carries(self, url: str) -> bool:
        return url.startswith(_URL)

    def fault(self, where: str, error: BaseException) -> None:
        """Only means that the proof fails."""


class Probe:
    """A request source that knows one request: the dummy."""

    def __init__(self) -> None:
        self.runtime = _ProbeRuntime()
        self._arrived: list[bool] = []

    def request_identity(self, request_key: str | None) -> Identity:
        """The dummy's caller."""
        del request_key
        return _IDENTITY

    def reaches_the_wire(self) -> bool:
        """Whether a sync and an async request both carry our header and our body field."""
        with contextlib.suppress(Exception):
            self._send()
        # In a thread, because this one may be running an event loop.
        thread = threading.Thread(target=self._send_async, name="agentrt-self-test", daemon=True)
        thread.start()
        thread.join(_TIMEOUT_S)
        return self._arrived == [True, True]

    def _transport(self) -> Any:
        import openai  # noqa: PLC0415 - optional

        http = sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]
        return http.MockTransport(self._receive)

    def _receive(self, request: Any) -> Any:
        self._arrived.append(SESSION_HEADER in request.headers and LABEL_KEY.encode() in request.content)
        raise ConnectionAbortedError  # no answer, so that the HTTP library logs no request

    def _send(self) -> None:
        from openai import DefaultHttpxClient, OpenAI  # noqa: PLC0415

        http = DefaultHttpxClient(transport=self._transport(), trust_env=False)
        with OpenAI(api_key="self-test", base_url=_URL, http_client=http, max_retries=0) as client:
            client.post("/chat/completions", cast_to=object, body={"model": "self-test"})

    def _send_async(self) -> None:
        async def send() -> None:
            from openai import AsyncOpenAI, DefaultAsyncHttpxClient  # noqa: PLC0415

            http = DefaultAsyncHttpxClient(transport=self._transport(), trust_env=False)
            async with AsyncOpenAI(api_key="self-test", base_url=_URL, http_client=http, max_retries=0) as client:
                await client.post("/chat/completions", cast_to=object, body={"model": "self-test"})

        with contextlib.suppress(Exception):
            asyncio.run(send())

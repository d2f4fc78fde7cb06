"""Client of a vLLM server that runs the agentrt plugin, over HTTP.

The first call, and the first after any failure, shakes hands: it asks for the server's capabilities and
refuses another protocol version. Errors say what to do about them, because people read them in `check()`.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, SecretStr, ValidationError

from agentrt.act import Outcome
from agentrt.engines.answers import error_of, plugin_absent, protocol_in
from agentrt.engines.base import Engine
from agentrt.engines.breaker import Breaker
from agentrt.engines.messages import message_bytes
from agentrt.engines.reports import AuditReply, Capabilities, EngineStatus, Residency, ResidencyReply
from agentrt.engines.wire import PREFIX, PROTOCOL_VERSION, Action, ActionReply
from agentrt.errors import (
    ActionRefused,
    ConfigError,
    EngineError,
    EngineUnreachable,
    ProtocolMismatch,
)
from agentrt.identity import DEFAULT_TENANT

logger = logging.getLogger("agentrt")

_JSON = {"Content-Type": "application/json"}
_MAX_ANSWER_BYTES = 16 * 2**20
_Model = TypeVar("_Model", bound=BaseModel)
_Result = TypeVar("_Result")


class VLLMEngine(Engine):
    """One vLLM server with the agentrt plugin, at `base_url` (with or without `/v1`).

    No wait is longer than `timeout_s`: not for a connection, not for the first byte, not for the whole body.
    After several failures in a row the `breaker` is open and calls raise EngineUnreachable at once.
    Thread-safe. Raises ConfigError for a malformed URL; nothing is sent before the first call.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | SecretStr | None = None,
        timeout_s: float = 2.0,
        breaker: Breaker | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._base_url = _root_of(base_url)
        self._timeout_s = timeout_s
        self._breaker = breaker or Breaker()
        self._greeted = False
        key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
        self._client = httpx.Client(
            base_url=self._base_url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=timeout_s,
            transport=transport,
        )

    @property
    def base_url(self) -> str:
        """Root URL of the server, without `/v1`."""
        return self._base_url

    def check(self) -> Capabilities:
        """Shake hands now, whatever the breaker says.

        Raises EngineUnreachable, PluginAbsent, KeyRefused or ProtocolMismatch, each saying what to do.
        """
        return self._counted(self._shake_hands)

    def capabilities(self) -> Capabilities:
        """What the server can do. Raises EngineError."""
        self._admit()
        return self._counted(self._shake_hands)

    def status(self, *, tenant: str = DEFAULT_TENANT) -> EngineStatus:
        """How the server stands now; of anchors, those of one tenant. Raises EngineError."""
        return self._ask("GET", "/status", EngineStatus, params={"tenant": tenant})

    def residency(
        self, *, agent: str | None = None, session: str | None = None, tenant: str = DEFAULT_TENANT
    ) -> list[Residency]:
        """Resident blocks of an agent or a session, by owner group. Raises EngineError."""
        query = {"tenant": tenant, "agent": agent, "session": session}
        params = {name: value for name, value in query.items() if value is not None}
        return self._ask("GET", "/residency", ResidencyReply, params=params).groups

    def audit(self) -> AuditReply:
        """Whether the server's queue, ownership and blocks agree; walks the whole pool. Raises EngineError."""
        return self._ask("GET", "/audit", AuditReply)

    def execute(self, actions: Sequence[Action], *, message_id: str | None = None) -> list[Outcome]:
        """Send actions as one message; one outcome each, in order. Raises EngineError."""
        if not actions:
            return []
        body = message_bytes(actions, message_id)
        reply = self._ask("POST", "/actions", ActionReply, content=body, headers=_JSON)
        if [o.action_id for o in reply.outcomes] != [a.action_id for a in actions]:
            raise EngineError(f"{self._base_url} answered for other actions than those sent")
        return [Outcome(action_id=o.action_id, status=o.outcome, reason=o.reason) for o in reply.outcomes]

    def close(self) -> None:
        """Close connections. Later calls raise EngineError."""
        self._client.close()

    # ---- asking -------------------------------------------------------------------------------------------

    def _ask(self, method: str, path: str, model: type[_Model], **request: Any) -> _Model:
        self._admit()

        def ask() -> _Model:
            if not self._greeted:
                self._shake_hands()
            return self._parse(self._request(method, path, **request), model)

        return self._counted(ask)

    def _admit(self) -> None:
        if not self._breaker.admit():
            raise EngineUnreachable(
                f"{self._base_url} failed several times in a row; left alone for {self._breaker.reset_s:g} s"
            )

    def _counted(self, ask: Callable[[], _Result]) -> _Result:
        """Run `ask` and tell the breaker how it went. Whatever goes wrong leaves as an EngineError."""
        try:
            answer = ask()
        except ActionRefused:
            self._breaker.succeeded()  # it answered, and it was our message that was at fault
            raise
        except BaseException as error:
            self._greeted = False
            if self._breaker.failed():
                logger.warning(
                    "agentrt: leaving the engine alone, trying again every %g s: %s",
                    self._breaker.reset_s,
                    error,
                )
            if isinstance(error, Exception) and not isinstance(error, EngineError):
                raise EngineError(f"asking {self._base_url} failed: {error!r}") from error
            raise
        if self._breaker.succeeded():
            logger.info("agentrt: %s answers again", self._base_url)
        return answer

    def _shake_hands(self) -> Capabilities:
        body = self._request("GET", "/capabilities")
        try:
            capabilities = Capabilities.model_validate_json(body)
        except ValidationError:
            # A server that answers every path with some page or other is one without the plugin.
            theirs = protocol_in(body)
            if theirs is None:
                raise plugin_absent(self._base_url) from None
        else:
            theirs = capabilities.protocol_version
            if theirs == PROTOCOL_VERSION:
                self._greeted = True
                return capabilities
        raise ProtocolMismatch(
            f"{self._base_url} speaks agentrt protocol {theirs}, this client protocol {PROTOCOL_VERSION}; "
            "install the same agentrt version on both sides"
        )

    def _request(self, method: str, path: str, **request: Any) -> bytes:
        """Body of a 200 answer; every other one is an EngineError."""
        deadline = time.monotonic() + self._timeout_s
        body = bytearray()
        try:
            with self._client.stream(method, PREFIX + path, **request) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > _MAX_ANSWER_BYTES or time.monotonic() > deadline:
                        raise EngineError(f"{self._base_url} answered too much, or too slowly, to be read")
        except httpx.TimeoutException:
            raise EngineUnreachable(f"no answer from {self._base_url} within {self._timeout_s:g} s") from None
        except httpx.HTTPError as error:
            raise EngineUnreachable(
                f"no answer from {self._base_url} ({error}); is the server running there?"
            ) from None
        if response.status_code != httpx.codes.OK:
            raise error_of(self._base_url, response.status_code, bytes(body))
        return bytes(body)

    def _parse(self, body: bytes, model: type[_Model]) -> _Model:
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            raise EngineError(f"{self._base_url} answered something else than a {model.__name__}: {error}") from None


def _root_of(base_url: str) -> str:
    """Normalise a base URL to its root, without `/v1` or a trailing slash."""
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError):
        url = httpx.URL("")
    reachable = url.scheme in {"http", "https"} and url.host and 0 < (url.port or 80) < 2**16
    if not reachable or url.userinfo or url.query or url.fragment:
        raise ConfigError(
            f"{base_url!r} is not the URL of an engine; it looks like http://localhost:8000 or "
            "https://vllm.example.org/v1"
        )
    return str(url).rstrip("/").removesuffix("/v1").rstrip("/")

"""The HTTP control plane `/v1/agentrt`, one implementation for every engine that serves HTTP.

The routes read, bound and validate; a `ControlBackend` carries out. Nothing a client sends makes a route
raise, and nothing the backend raises reaches a client as more than `503`. Errors look like
`{"error": {"message": ..., "field": ...}}`, `field` only where one is at fault:

    400 not JSON            409 another protocol version      413 body or number of actions too large
    422 malformed           503 the engine could not be asked
"""

import json
import logging
from collections.abc import Callable
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from agentrt.config import Settings
from agentrt.engines.messages import Refusal, malformed, parse_message, too_large
from agentrt.engines.reports import AuditReply, Capabilities, EngineStatus, ResidencyReply
from agentrt.engines.wire import PREFIX, ActionOutcome, ActionReply, Name
from agentrt.identity import DEFAULT_TENANT

logger = logging.getLogger("agentrt")

_DRAIN_FACTOR = 8
"""An oversized body is read and dropped up to this many times the limit, so that the client gets its 413
and not a connection reset; beyond that the connection is given up."""


class ControlBackend(Protocol):
    """What an engine offers to its control plane. Methods may raise; the routes answer 503."""

    async def capabilities(self) -> Capabilities:
        """What the engine can do."""

    async def status(self) -> EngineStatus:
        """How it stands now."""

    async def residency(self, *, tenant: str, agent: str | None, session: str | None) -> ResidencyReply:
        """Resident blocks by owner group, of one tenant."""

    async def audit(self) -> AuditReply:
        """Whether queue, ownership and blocks agree. Walks the whole pool."""

    async def execute(self, message_id: str, actions: list[dict[str, Any]]) -> list[ActionOutcome]:
        """Carry out validated actions; one outcome each, in order. Idempotent by `message_id`.

        An action of an unknown type arrives with an empty payload, to be answered `rejected`.
        """


def control_routes(backend: Callable[[], ControlBackend], settings: Settings) -> list[Route]:
    """Routes to add to a Starlette or FastAPI app. `backend` is asked for per request: it may come later."""
    plane = _ControlPlane(backend, settings)
    return [
        Route(f"{PREFIX}/capabilities", plane.capabilities, methods=["GET"]),
        Route(f"{PREFIX}/status", plane.status, methods=["GET"]),
        Route(f"{PREFIX}/residency", plane.residency, methods=["GET"]),
        Route(f"{PREFIX}/audit", plane.audit, methods=["GET"]),
        Route(f"{PREFIX}/actions", plane.actions, methods=["POST"]),
    ]


class _ResidencyQuery(BaseModel):
    model_config = ConfigDict(extra="ignore")

    tenant: Name = DEFAULT_TENANT
    agent: Name | None = None
    session: Name | None = None


class _ControlPlane:
    def __init__(self, backend: Callable[[], ControlBackend], settings: Settings) -> None:
        self._backend = backend
        self._settings = settings
        self._logged: set[tuple[str, str]] = set()

    async def capabilities(self, _: Request) -> Response:
        try:
            return _answer(await self._backend().capabilities())
        except Exception as error:
            return self._unavailable("capabilities", error)

    async def status(self, request: Request) -> Response:
        try:
            status = await self._backend().status()
            return _answer(status.of_tenant(request.query_params.get("tenant", DEFAULT_TENANT)))
        except Exception as error:
            return self._unavailable("status", error)

    async def residency(self, request: Request) -> Response:
        try:
            query = _ResidencyQuery.model_validate(dict(request.query_params))
            reply = await self._backend().residency(tenant=query.tenant, agent=query.agent, session=query.session)
            return _answer(reply)
        except ValidationError as error:
            return _refuse(malformed(error))
        except Exception as error:
            return self._unavailable("residency", error)

    async def audit(self, _: Request) -> Response:
        try:
            return _answer(await self._backend().audit())
        except Exception as error:
            return self._unavailable("audit", error)

    async def actions(self, request: Request) -> Response:
        try:
            body = await _read(request, self._settings.max_body_bytes)
            message_id, actions = parse_message(body, max_actions=self._settings.max_actions)
            outcomes = await self._backend().execute(message_id, actions)
            return _answer(ActionReply(message_id=message_id, outcomes=outcomes))
        except Refusal as refusal:
            return _refuse(refusal)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is left to read it
        except Exception as error:
            return self._unavailable("actions", error)

    def _unavailable(self, route: str, error: Exception) -> Response:
        kind = type(error).__name__
        if (route, kind) not in self._logged:
            self._logged.add((route, kind))
            logger.error("agentrt: the engine could not answer %s; logged once", route, exc_info=error)
        return _refuse(Refusal(503, f"the engine could not answer ({kind}); see the server's log"))


async def _read(request: Request, limit_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit_bytes:
            chunks.append(chunk)
        elif size > limit_bytes * _DRAIN_FACTOR:
            break
    if size > limit_bytes:
        raise too_large(limit_bytes)
    return b"".join(chunks)


def _answer(model: BaseModel) -> Response:
    return Response(model.model_dump_json(), media_type="application/json")


def _refuse(refusal: Refusal) -> Response:
    error = {"message": refusal.message}
    if refusal.field is not None:
        error["field"] = refusal.field
    # ASCII escapes, because a client's own key may hold half a surrogate pair.
    return Response(json.dumps({"error": error}), refusal.status, media_type="application/json")

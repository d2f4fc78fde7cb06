"""The embedded engine's HTTP side: OpenAI's chat and plain completions, models and health, and `/v1/agentrt`.

`stop` is honoured; sampling parameters are accepted and ignored, since nothing is sampled. Any model name is
accepted. A client that goes away takes its request with it.
"""

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from agentrt.engines.embedded.job import BadRequest, Job, JobMaker
from agentrt.engines.embedded.loop import EngineLoop, Generation
from agentrt.engines.embedded.openai import ChatRequest, CompletionRequest, GenerationRequest, error_body
from agentrt.engines.embedded.render import ChatRender, CompletionRender, Render
from agentrt.errors import EngineError

_Asked = TypeVar("_Asked", bound=BaseModel)


class OpenAIServer:
    """The endpoints over an `EngineLoop` that runs in the same event loop."""

    def __init__(self, loop: EngineLoop, jobs: JobMaker, *, model: str) -> None:
        self._loop = loop
        self._jobs = jobs
        self._model = model

    def routes(self) -> list[Route]:
        """Everything but the control plane."""
        return [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
        ]

    async def health(self, _: Request) -> Response:
        """200 while the engine runs."""
        return Response()

    async def models(self, _: Request) -> Response:
        """The one model."""
        card = {"id": self._model, "object": "model", "owned_by": "agentrt", "max_model_len": self._jobs.max_model_len}
        return JSONResponse({"object": "list", "data": [card]})

    async def chat(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        return await self._answered(request, ChatRequest, self._jobs.chat, ChatRender)

    async def completions(self, request: Request) -> Response:
        """`POST /v1/completions`."""
        return await self._answered(request, CompletionRequest, self._jobs.completion, CompletionRender)

    async def _answered(
        self, request: Request, model: type[_Asked], job_of: Callable[..., Job], render: type[Render]
    ) -> Response:
        try:
            asked: Any = model.model_validate_json(await request.body())
            job = job_of(asked, request.headers)
            generation = self._loop.submit(job.request)
        except (ClientDisconnect, ValueError, BadRequest, EngineError) as error:
            return _refuse(error)
        view = render(job, model=asked.model or self._model)
        if asked.stream:
            return StreamingResponse(self._events(generation, view, asked), media_type="text/event-stream")
        return await self._whole(request, generation, view)

    async def _whole(self, request: Request, generation: Generation, view: Render) -> Response:
        try:
            if await _unless_disconnected(request, generation.all()):
                return JSONResponse(view.whole())
            return Response(status_code=400)  # nobody is left to read it
        except EngineError as error:
            return _refuse(error)
        finally:
            self._loop.abort(generation)

    async def _events(self, generation: Generation, view: Render, asked: GenerationRequest) -> AsyncIterator[bytes]:
        try:
            shown = 0
            while not generation.finished or shown < generation.produced:
                produced = await generation.more()
                for chunk in view.chunks(shown, produced):
                    yield _event(chunk)
                shown = produced
            if asked.wants_usage:
                yield _event(view.usage_chunk())
        except EngineError as error:
            yield _event(error_body(str(error), status=503))
        finally:
            self._loop.abort(generation)
        yield b"data: [DONE]\n\n"


class KeyGuard:
    """ASGI middleware: paths under `/v1` need the key, as with vLLM's `--api-key`."""

    def __init__(self, app: ASGIApp, *, api_key: str) -> None:
        self._app = app
        self._expected = f"Bearer {api_key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 401."""
        if scope["type"] == "http" and scope["path"].startswith("/v1"):
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                response = JSONResponse(error_body("the API key is missing or wrong", status=401), 401)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _unless_disconnected(request: Request, work: Awaitable[int]) -> bool:
    """Wait for `work`, or stop waiting when the client goes away; whether the work was done."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            return True
        return False
    finally:
        working.cancel()
        leaving.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refuse(error: Exception) -> Response:
    match error:
        case ValidationError():
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"]) or "body"
            return JSONResponse(error_body(f"{field}: {first['msg']}", status=400, field=field), 400)
        case BadRequest():
            return JSONResponse(error_body(error.message, status=400, field=error.field), 400)
        case EngineError():
            return JSONResponse(error_body(str(error), status=503), 503)
        case _:
            return JSONResponse(error_body(str(error), status=400), 400)


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"

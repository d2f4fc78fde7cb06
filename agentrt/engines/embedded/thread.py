"""An ASGI app served by uvicorn in a thread, and calls into its event loop from other threads."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvicorn
from starlette.types import ASGIApp

from agentrt.errors import ConfigError, EngineError, EngineUnreachable

logger = logging.getLogger("agentrt")

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_Result = TypeVar("_Result")


class ServerThread:
    """Listens from construction to `close()`. Raises ConfigError when the address cannot be used."""

    def __init__(self, app: ASGIApp, *, host: str, port: int) -> None:
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._server = _Server(
            uvicorn.Config(
                app,
                lifespan="on",
                ws="none",
                log_config=None,  # logging belongs to the application we run in
                log_level="warning",
                access_log=False,
                timeout_keep_alive=60,
                timeout_graceful_shutdown=5,
            )
        )
        # A daemon, so that a script that forgets to close the engine can still end.
        self._thread = threading.Thread(target=self._serve, name="agentrt-embedded", daemon=True)
        self._thread.start()
        self._server.ready.wait(_START_TIMEOUT_S)
        if self._server.loop is None:
            self.close()
            raise EngineError("the embedded engine's server did not start; see its log")

    def call(self, work: Coroutine[Any, Any, _Result], *, timeout_s: float) -> _Result:
        """Run a coroutine in the server's loop and wait for it. Raises EngineUnreachable when there is none."""
        loop = self._server.loop
        if loop is None or loop.is_closed():
            work.close()
            raise EngineUnreachable("the embedded engine is closed")
        if self._thread is threading.current_thread():
            work.close()
            raise EngineError("the embedded engine cannot wait for itself; call it from another thread")
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise EngineUnreachable(f"no answer from the embedded engine within {timeout_s:g} s") from None

    def close(self, before: Callable[[], None] | None = None) -> None:
        """Stop serving; `before` runs in the loop first. Harmless when repeated."""
        loop = self._server.loop
        if before is not None and loop is not None and self._thread.is_alive():
            loop.call_soon_threadsafe(before)
        self._server.should_exit = True
        if self._thread is not threading.current_thread():
            self._thread.join(_STOP_TIMEOUT_S)
        self._socket.close()

    def wait(self) -> None:
        """Block until the server ends."""
        self._thread.join()

    def _serve(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except Exception:
            logger.exception("agentrt: the embedded engine's server ended with an error")
        finally:
            self._server.loop = None
            self._server.ready.set()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.loop = asyncio.get_running_loop()
            self.ready.set()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY on what it accepts; without, every answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError, TypeError) as error:
        listener.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {error}; give a free port, or 0 for any") from None
    return listener

"""Real local HTTP servers for the tests of engines."""

import socket
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import settings

# How long an example takes says nothing here: engines run in threads beside it.
settings.register_profile("engines", deadline=None)
settings.load_profile("engines")


class ScriptedServer:
    """A server whose `answer(method, path, body) -> (status, bytes)` the test may change at any time."""

    def __init__(self, answer, port=0):
        self.answer = answer
        self.asked = []
        self.headers = []
        self._open = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                script.asked.append(f"{self.command} {self.path}")
                script.headers.append(dict(self.headers))
                status, answer = script.answer(self.command, self.path, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = _serve  # noqa: N815 - the names http.server looks for

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def process_request(self, request, client_address):
                script._open.append(request)
                super().process_request(request, client_address)

            def handle_error(self, *_):
                pass  # a client that left early is part of the test

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self):
        """Vanish: stop listening and cut every connection, kept-alive ones too."""
        self._server.shutdown()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture
def scripted_server():
    """Start scripted servers; they are stopped after the test."""
    servers = []

    def start(answer, port=0):
        servers.append(ScriptedServer(answer, port))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def held():
    """A context manager giving an Event that is surely set at its end, so that no server thread hangs."""

    @contextmanager
    def hold():
        event = threading.Event()
        try:
            yield event
        finally:
            event.set()

    return hold

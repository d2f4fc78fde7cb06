"""Servers with canned answers, and the command line as a function."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from agentrt.cli import main

CAPABILITIES = {
    "protocol_version": "1",
    "engine": "vllm",
    "engine_version": "0.32.0",
    "agentrt_version": "0.1.0",
    "order": "agentrt",
    "degraded": [],
    "actions": [],
    "block_size_tokens": 16,
    "num_blocks": 600,
}
STATUS = {
    "order": "agentrt",
    "running": 0,
    "waiting": 0,
    "total_blocks": 600,
    "block_size_tokens": 16,
    "free_blocks": 600,
    "cached_blocks": 100,
    "groups": 7,
    "sessions": 2,
    "faults": 0,
}
HEALTHY: dict[str, tuple[int, Any]] = {
    "/v1/models": (200, {"data": [{"id": "tiny"}]}),
    "/v1/chat/completions": (200, {"choices": [], "usage": {"prompt_tokens_details": {"cached_tokens": 64}}}),
    "/v1/agentrt/capabilities": (200, CAPABILITIES),
    "/v1/agentrt/status": (200, STATUS),
}


@dataclass(frozen=True)
class Said:
    """What a command line left behind."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    """The caller's own keys and settings stay out of the tests."""
    for name in ("OPENAI_API_KEY", "AGENTRT_API_KEY", "AGENTRT_TENANT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def agentrt(capsys) -> Callable[..., Said]:
    """`agentrt("doctor", "--json")` runs the command in this process."""

    def run(*argv: str) -> Said:
        try:
            code = main(argv)
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        out, err = capsys.readouterr()
        return Said(code, out, err)

    return run


@pytest.fixture
def server() -> Iterator[Callable[..., str]]:
    """`server({path: (status, JSON)})` starts a server; paths not named are 404. Returns its URL."""
    running: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(answers: dict[str, tuple[int, Any]]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, body = answers.get(self.path.split("?")[0], (404, {"detail": "Not Found"}))
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = _answer  # noqa: N815 - http.server's names

            def log_message(self, *args: object) -> None:
                pass

        http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        running.append((http, thread))
        return f"http://127.0.0.1:{http.server_port}"

    yield start
    for http, thread in running:
        http.shutdown()
        http.server_close()
        thread.join(timeout=5)


@pytest.fixture
def healthy() -> dict[str, tuple[int, Any]]:
    """What a vLLM server with the plugin answers."""
    return dict(HEALTHY)


@pytest.fixture
def nobody() -> str:
    """A URL at which nothing listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as http:
        port = http.server_port
    return f"http://127.0.0.1:{port}"

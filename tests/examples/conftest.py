"""A small OpenAI-compatible server whose replies a test writes, and the example loaded from the clone."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any

import pytest

from agentrt.evaluation.examples import load_example

Call = tuple[str, str]
"""A tool's name and its arguments as raw text, sensible or not."""


@dataclass
class ChatServer:
    """Answers every request by `reply(body)`, a text and tool calls; keeps the request bodies."""

    reply: Callable[[dict[str, Any]], tuple[str, list[Call]]]
    base_url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def _chunks(body: dict[str, Any], number: int, text: str, calls: list[Call]) -> Iterator[dict[str, Any]]:
    head = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": 0, "model": body["model"]}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word + " "} for word in text.split(" ")] if text else []
    for index, (name, arguments) in enumerate(calls):
        function = {"name": name, "arguments": arguments}
        deltas.append(
            {"tool_calls": [{"index": index, "id": f"call-{index}", "type": "function", "function": function}]}
        )
    for delta in deltas:
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls" if calls else "stop"}]}
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 5,
        "total_tokens": 105,
        "prompt_tokens_details": {"cached_tokens": 40},
    }
    yield {**head, "choices": [], "usage": usage}


def _handler(server: ChatServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                server.requests.append(body)
                number = len(server.requests)
            text, calls = server.reply(body)
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for chunk in _chunks(body, number, text, calls):
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.write(b"data: [DONE]\n\n")

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def chat_server() -> Iterator[Callable[..., ChatServer]]:
    """Start servers by `chat_server(reply)`; all of them stop with the test."""
    running: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(reply: Callable[[dict[str, Any]], tuple[str, list[Call]]]) -> ChatServer:
        server = ChatServer(reply)
        http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
        server.base_url = f"http://127.0.0.1:{http.server_port}/v1"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        running.append((http, thread))
        return server

    yield start
    for http, thread in running:
        http.shutdown()
        http.server_close()
        thread.join(timeout=5)


@pytest.fixture(scope="session")
def team() -> ModuleType:
    return load_example("software_team")

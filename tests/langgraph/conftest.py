"""A small OpenAI-compatible server that records what arrives, and a runtime that records what it is told."""

import itertools
import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from agentrt_langgraph import uninstall
from agentrt_langgraph.trackers import tracker_of
from langchain_openai import ChatOpenAI

from agentrt.config import Settings
from agentrt.events import CallStarted, Dispatched, Event
from agentrt.gates import ToolGates
from agentrt.identity import Identity
from agentrt.plan import RequestPlan


class Recorder:
    """The surface of `agentrt.runtime.Runtime` that the integration uses, kept in memory."""

    def __init__(self, origin: str = "") -> None:
        self.settings = Settings()
        self.kept: dict[str, Any] = {}
        self.clock: Callable[[], float] = time.monotonic
        self.events: list[Event] = []
        self.faults: list[tuple[str, BaseException]] = []
        self.origin = origin
        self.answer = RequestPlan()
        self.tool_gates = ToolGates()

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def plan(self, identity: Identity) -> RequestPlan:
        return self.answer

    def carries(self, url: str) -> bool:
        return bool(self.origin) and urlsplit(url).netloc == urlsplit(self.origin).netloc

    def fault(self, where: str, error: BaseException) -> None:
        self.faults.append((where, error))

    def of(self, kind: type[Event]) -> list[Any]:
        """Events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def agents(self) -> list[str]:
        """Agents in the order of their calls."""
        return [event.identity.agent for event in self.of(CallStarted)]

    def edges(self) -> set[tuple[str, str]]:
        """Dispatches seen, without their kind; the start of a run is START."""
        found = {(event.dispatch.source, event.dispatch.target) for event in self.of(Dispatched)}
        return {("START" if a == "__start__" else a, b) for a, b in found}

    def open_runs(self) -> int:
        return len(tracker_of(self).open_runs)


@dataclass
class Reply:
    """A scripted answer of one model."""

    content: str | None = "ok"
    tool_calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    status: int = 200


@dataclass
class Request:
    """A request that arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def label(self) -> dict[str, Any] | None:
        """The identity in the body, decoded."""
        label = (self.body.get("vllm_xargs") or {}).get("agentrt")
        return None if label is None else json.loads(label)

    @property
    def prompt(self) -> str:
        """The user's message."""
        return next(m["content"] for m in self.body["messages"] if m["role"] == "user")


class Server(ThreadingHTTPServer):
    """Answers chat completions and responses, plain or streamed, with tool calls where scripted."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[Request] = []
        self.scripts: dict[str, deque[Reply]] = defaultdict(deque)
        self.ids = itertools.count(1)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left a stream is no error of the server."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def script(self, model: str, *replies: Reply) -> None:
        """Replies of one model, in order; afterwards it answers `ok`."""
        self.scripts[model].extend(replies)

    def reset(self) -> None:
        self.requests.clear()
        self.scripts.clear()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args: object) -> None:
        pass

    def end_headers(self) -> None:
        # LangChain shares one async HTTP client among event loops: a connection kept open would outlive its loop.
        self.send_header("connection", "close")
        super().end_headers()

    def do_GET(self) -> None:
        self._send({"object": "list", "data": []})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append(Request(self.path, headers, body))
        script = self.server.scripts.get(body.get("model"))
        reply = script.popleft() if script else Reply()
        if reply.status != 200:
            self._send({"error": {"message": "scripted"}}, reply.status)
        elif self.path.endswith("/responses"):
            self._send(self._response(body, reply))
        elif self.path.endswith("/embeddings"):
            data = [{"object": "embedding", "index": 0, "embedding": [0.0]}]
            self._send({"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 0, "total_tokens": 0}})
        elif body.get("stream"):
            self._stream(body, reply)
        else:
            self._send(self._completion(body, reply))

    def _send(self, payload: dict[str, Any], status: int = 200) -> None:
        raw = json.dumps(payload).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _tool_calls(self, reply: Reply) -> list[dict[str, Any]]:
        return [
            {
                "index": index,
                "id": f"call_{next(self.server.ids)}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(args)},
            }
            for index, (name, args) in enumerate(reply.tool_calls)
        ]

    def _completion(self, body: dict[str, Any], reply: Reply) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": reply.content}
        calls = self._tool_calls(reply)
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
        return {**self._base(body, "chat.completion"), "choices": [choice], "usage": _USAGE}

    def _stream(self, body: dict[str, Any], reply: Reply) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        base = self._base(body, "chat.completion.chunk")
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": char} for char in reply.content or ""]
        deltas += [{"tool_calls": [call]} for call in self._tool_calls(reply)]
        for delta in deltas:
            self._event({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        self._event({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self._event({**base, "choices": [], "usage": _USAGE})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, payload: dict[str, Any]) -> None:
        self._chunk(f"data: {json.dumps(payload)}\n\n".encode())

    def _chunk(self, raw: bytes) -> None:
        try:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))
            self.wfile.flush()
        except OSError:
            self.close_connection = True

    def _base(self, body: dict[str, Any], kind: str) -> dict[str, Any]:
        return {"id": f"c-{next(self.server.ids)}", "object": kind, "created": 1, "model": body.get("model", "m")}

    def _response(self, body: dict[str, Any], reply: Reply) -> dict[str, Any]:
        text = {"type": "output_text", "text": reply.content, "annotations": []}
        message = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [text]}
        return {
            "id": "r1",
            "object": "response",
            "created_at": 1,
            "model": body["model"],
            "status": "completed",
            "output": [message],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": 11,
                "output_tokens": 2,
                "total_tokens": 13,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
            },
        }


_USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 2,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 8},
}


@pytest.fixture(scope="session")
def _server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(_server: Server) -> Server:
    """A running server with nothing recorded and nothing scripted."""
    _server.reset()
    return _server


@pytest.fixture
def runtime(server: Server) -> Iterator[Recorder]:
    """A runtime whose engine is the server. Whatever the test does, nothing of ours may have failed."""
    recorder = Recorder(server.url)
    yield recorder
    uninstall()
    assert recorder.faults == []


@pytest.fixture
def new_runtime() -> Iterator[Callable[[str], Recorder]]:
    """Makes further runtimes; their faults are the test's own business."""
    yield Recorder
    uninstall()


@pytest.fixture
def reply() -> type[Reply]:
    """Scripted answers."""
    return Reply


@pytest.fixture
def call() -> Callable[..., Reply]:
    """A scripted answer that calls tools: `call(("name", {args}), ...)`."""
    return lambda *tool_calls: Reply(content=None, tool_calls=list(tool_calls))


@pytest.fixture
def chat(server: Server) -> Callable[..., ChatOpenAI]:
    """A chat model of the server."""

    def make(model: str = "m", **options: Any) -> ChatOpenAI:
        settings = {"base_url": server.url, "api_key": "x", "max_retries": 0}
        return ChatOpenAI(model=model, **(settings | options))

    return make

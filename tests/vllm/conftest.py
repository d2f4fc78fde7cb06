"""Real vLLM servers for the tests here: seeded real weights, exactly `NUM_BLOCKS` blocks, one server per configuration.

A server starts when a test first asks for it and is shared by all that ask for the same; at most `MAX_ALIVE` run at a
time. When a test fails, the end of every running server's log is shown with it.

One long file, because what tests share lives in a conftest: test modules cannot import one another.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

HERE = Path(__file__).parent
NUM_BLOCKS = 128
BLOCK_SIZE_TOKENS = 32
START_TIMEOUT_S = 240
MAX_ALIVE = 3
"""Servers that run at the same time: each takes some 2.5 GB."""

API_KEY = "secret-of-the-tests"


@dataclass(frozen=True)
class Configuration:
    """What one kind of server differs in. `plugins` is the value of VLLM_PLUGINS; empty for none."""

    name: str
    plugins: str = ""
    arguments: tuple[str, ...] = ()
    api_key: str | None = None
    environment: tuple[tuple[str, str], ...] = ()


STOCK = Configuration("stock")
AGENTRT = Configuration("agentrt", plugins="agentrt")
NO_PREFIX_CACHING = Configuration("no-prefix-caching", arguments=("--no-enable-prefix-caching",))
FAULTY = Configuration(
    "faulty",
    plugins="agentrt,agentrt_fault",
    api_key=API_KEY,
    environment=(("PYTHONPATH", str(HERE / "fault_plugin")),),
)

LOOP = Configuration(
    "loop",
    plugins="agentrt",
    # room for some nine tenths of what seven live conversations of the example need
    arguments=("--num-gpu-blocks-override", "321", "--max-model-len", "10240"),
)


@dataclass
class VLLMServer:
    """A running server. `base_url` has no `/v1`; `model` is the name to ask for."""

    configuration: Configuration
    model_path: Path
    log_path: Path
    model: str = "small"
    num_blocks: int = NUM_BLOCKS
    block_size_tokens: int = BLOCK_SIZE_TOKENS
    base_url: str = ""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def api_key(self) -> str | None:
        """The key it wants, if any."""
        return self.configuration.api_key

    def start(self) -> None:
        """Start and wait for /health. Raises RuntimeError with the end of the log when it does not come up."""
        port = _free_port()
        self.base_url = f"http://127.0.0.1:{port}"
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(port),
                env=self._environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its own process group, so that stop() reaches every process of it
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.base_url}/health", timeout=2).status_code == httpx.codes.OK:
                    return
            time.sleep(0.25)  # a process of others: there is nothing to wait on but its port
        self.stop()
        raise RuntimeError(f"vLLM ({self.configuration.name}) did not start:\n{self.log_tail(60)}")

    def stop(self) -> None:
        """Stop it and every process it started."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(15)

    @property
    def alive(self) -> bool:
        """Whether its main process runs."""
        return self._process is not None and self._process.poll() is None

    def client(self, timeout_s: float = 120) -> httpx.Client:
        """A plain HTTP client with the server's key."""
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return httpx.Client(base_url=self.base_url, headers=headers, timeout=timeout_s)

    def complete(
        self, prompt: Sequence[int], *, max_tokens: int = 1, label: str | None = None, **fields: Any
    ) -> dict[str, Any]:
        """One completion of token ids at temperature 0: `text`, `token_ids` and `cached_tokens`."""
        body = {
            "model": self.model, "prompt": list(prompt), "max_tokens": max_tokens, "temperature": 0,
            "ignore_eos": True, "return_token_ids": True, **fields,
        }  # fmt: skip
        if label is not None:
            body["vllm_xargs"] = {"agentrt": label}
        with self.client() as client:
            reply = client.post("/v1/completions", json=body)
        assert reply.status_code == httpx.codes.OK, reply.text
        answer = reply.json()
        choice, details = answer["choices"][0], answer["usage"].get("prompt_tokens_details") or {}
        return {
            "text": choice["text"],
            "token_ids": choice["token_ids"],
            "cached_tokens": details.get("cached_tokens") or 0,
        }

    def control(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the control plane: GET, or POST of `body`."""
        with self.client() as client:
            url = f"/v1/agentrt/{path}"
            reply = client.get(url) if body is None else client.post(url, json=body)
        assert reply.status_code == httpx.codes.OK, reply.text
        answer: dict[str, Any] = reply.json()
        return answer

    def reset_prefix_cache(self) -> None:
        """Forget every cached prefix."""
        with self.client() as client:
            assert client.post("/reset_prefix_cache").status_code == httpx.codes.OK

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of its log."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def _command(self, port: int) -> list[str]:
        return [
            sys.executable, "-m", "vllm.entrypoints.openai.api_server",
            "--model", str(self.model_path), "--served-model-name", self.model,
            "--host", "127.0.0.1", "--port", str(port),
            "--dtype", "float32", "--enforce-eager",
            "--block-size", str(self.block_size_tokens),
            "--num-gpu-blocks-override", str(self.num_blocks + 1),  # one is vLLM's null block
            "--max-model-len", str(self.num_blocks * self.block_size_tokens),
            "--max-num-batched-tokens", "512", "--max-num-seqs", "16",
            "--enable-prompt-tokens-details", "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
            *(["--api-key", self.api_key] if self.api_key else []),
            *self.configuration.arguments,
        ]  # fmt: skip

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "VLLM_PLUGINS": self.configuration.plugins,
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_SERVER_DEV_MODE": "1",  # for /reset_prefix_cache
            "HF_HUB_OFFLINE": "1",
            **dict(self.configuration.environment),
        }


class Fleet:
    """Servers by configuration, started on demand; the one not asked for longest makes room."""

    def __init__(self, model_path: Path, logs: Path) -> None:
        self._model_path, self._logs = model_path, logs
        self._servers: dict[str, VLLMServer] = {}

    def get(self, configuration: Configuration) -> VLLMServer:
        """The running server of a configuration."""
        server = self._servers.pop(configuration.name, None)
        if server is None or not server.alive:
            while len(self._servers) >= MAX_ALIVE:
                self._servers.pop(next(iter(self._servers))).stop()
            server = VLLMServer(configuration, self._model_path, self._logs / f"{configuration.name}.log")
            server.start()
        self._servers[configuration.name] = server
        return server

    def running(self) -> Iterator[VLLMServer]:
        """Servers that were started and not stopped."""
        return iter(self._servers.values())

    def stop(self) -> None:
        """Stop all of them."""
        while self._servers:
            self._servers.popitem()[1].stop()


_FLEET = pytest.StashKey[Fleet]()


@pytest.fixture(scope="session")
def model_path() -> Path:
    """Directory of the small model; written once per version of its source."""
    return _model("small")


@pytest.fixture(scope="session")
def nano_path() -> Path:
    """Directory of the smallest model."""
    return _model("nano")


@pytest.fixture(scope="session")
def fleet(model_path: Path, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Fleet]:
    """Every server of this run."""
    servers = pytestconfig.stash[_FLEET] = Fleet(model_path, tmp_path_factory.mktemp("vllm-logs"))
    yield servers
    servers.stop()


@pytest.fixture(scope="session")
def loop_configuration() -> Configuration:
    """The plugin, and a pool sized for the example's conversations."""
    return LOOP


@pytest.fixture
def plugin_server(fleet: Fleet) -> VLLMServer:
    """A server with the agentrt plugin."""
    return fleet.get(AGENTRT)


@pytest.fixture
def stock_server(fleet: Fleet) -> VLLMServer:
    """A server with no plugin enabled."""
    return fleet.get(STOCK)


@pytest.fixture
def reference_server(fleet: Fleet) -> VLLMServer:
    """A server without prefix caching: what outputs are compared with."""
    return fleet.get(NO_PREFIX_CACHING)


@pytest.fixture
def faulty_server(fleet: Fleet) -> VLLMServer:
    """A server with the plugin, an API key, and a plugin that makes ours raise on request."""
    return fleet.get(FAULTY)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the servers' logs with a failure."""
    report = yield
    servers = item.config.stash.get(_FLEET, None)
    if report.failed and servers is not None:
        for server in servers.running():
            report.sections.append((f"log of {server.configuration.name}", server.log_tail()))
    return report


def _model(size: str) -> Path:
    script = HERE / "model.py"
    key = sha256(script.read_bytes() + sys.version.encode()).hexdigest()[:12]
    directory = Path(sys.prefix) / "agentrt-test-models" / f"{size}-{key}"
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent) as unfinished:
            # In a process of its own, which gives torch's memory back.
            subprocess.run([sys.executable, str(script), size, unfinished], check=True, capture_output=True)
            with suppress(OSError):  # another run was first
                Path(unfinished).rename(directory)
            Path(unfinished).mkdir(exist_ok=True)
    return directory


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port

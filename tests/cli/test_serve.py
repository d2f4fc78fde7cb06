"""`agentrt serve-embedded` is a server like any other: for curl, for doctor, and for the demo."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def served() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running `agentrt serve-embedded` with a key, and its URL."""
    argv = ["serve-embedded", "--port", "0", "--blocks", "700", "--api-key", "secret", "--time-scale", "0.05"]
    process = subprocess.Popen(
        [sys.executable, "-m", "agentrt", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield process, line.split(" at ")[1].split()[0]
    finally:
        process.kill()
        process.communicate(timeout=10)


def test_doctor_and_demo_work_on_it(agentrt, served, monkeypatch):
    """With the key both work over HTTP, without it both say how to give one."""
    process, url = served
    refused = agentrt("doctor", "--base-url", url)
    assert refused.code == 1
    assert "AGENTRT_API_KEY" in refused.out
    assert agentrt("demo", "--base-url", url).code == 1
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert agentrt("doctor", "--base-url", url).code == 0
    said = agentrt("demo", "--base-url", url, "--sessions", "2", "--concurrency", "2", "--max-tokens", "20")
    assert said.code == 0, said.err
    assert "hit rate" in said.out
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0


def test_a_taken_port(agentrt, served):
    """A port in use is one line and exit code 1 or 2, never a traceback."""
    _, url = served
    run = subprocess.run(
        [sys.executable, "-m", "agentrt", "serve-embedded", "--port", url.rsplit(":", 1)[1]],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=os.environ,
    )
    assert run.returncode in {1, 2}
    assert "Traceback" not in run.stderr
    assert url.rsplit(":", 1)[1] in run.stderr

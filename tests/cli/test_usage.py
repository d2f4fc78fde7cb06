"""Help texts, versions, and bad usage: one clear line, never a traceback."""

import subprocess
import sys

import pytest

COMMANDS = ("demo", "serve-embedded", "doctor")


def test_help_names_every_command(agentrt):
    """`agentrt --help` lists the commands with examples."""
    said = agentrt("--help")
    assert said.code == 0
    assert all(command in said.out for command in COMMANDS)
    assert "examples:" in said.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(agentrt, command):
    """Each subcommand's help has a description, an example of itself, and fits a terminal."""
    said = agentrt(command, "--help")
    assert said.code == 0
    assert f"  agentrt {command}" in said.out.split("examples:")[1]
    assert max(map(len, said.out.splitlines())) <= 120
    assert "==SUPPRESS==" not in said.out


def test_the_version(agentrt):
    """--version prints name and version."""
    assert agentrt("--version").out == "agentrt 0.1.0\n"


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], "COMMAND"),
        (["simulate-everything"], "invalid choice"),
        (["demo", "--sessions", "0"], "not a whole number from 1"),
        (["demo", "--sessions", "many"], "'many' is not a whole number"),
        (["demo", "--concurrency", "-3"], "not a whole number from 1"),
        (["demo", "--blocks", "3"], "not a whole number from 64"),
        (["demo", "--time-scale", "nan"], "not a number above 0"),
        (["demo", "--model", "x"], "give --base-url too"),
        (["demo", "--base-url", "http://localhost:1", "--blocks", "100"], "--blocks sizes the embedded engine"),
        (["demo", "--base-url", "nonsense"], "looks like http://localhost:8000"),
        (["demo", "--picture", "demo.txt"], "--picture demo.txt: the name must end in one of"),
        (["demo", "--unknown"], "unrecognized arguments: --unknown"),
        (["serve-embedded", "--port", "99999"], "not a whole number from 0 to 65535"),
        (["doctor"], "--base-url"),
    ],
)
def test_bad_usage_is_code_2(agentrt, argv, told):
    """Wrong arguments: exit code 2, the reason on stderr, nothing on stdout."""
    said = agentrt(*argv)
    assert (said.code, said.out) == (2, "")
    assert told in said.err
    assert "Traceback" not in said.err


def test_invalid_settings_are_named(agentrt, monkeypatch):
    """A broken environment variable is named with its value, as bad usage."""
    monkeypatch.setenv("AGENTRT_TIMEOUT_S", "never")
    said = agentrt("doctor", "--base-url", "http://localhost:1")
    assert said.code == 2
    assert "AGENTRT_TIMEOUT_S='never'" in said.err


@pytest.mark.parametrize("wrong", ["nobody", "no plugin", "no model", "no tools", "no usage"])
def test_a_server_that_cannot_run_the_demo(agentrt, server, healthy, nobody, wrong):
    """The demo says what is missing on a server before it sends hundreds of calls: exit code 1."""
    refusal = {"error": {"message": '"auto" tool choice requires --enable-auto-tool-choice'}}
    changes, argv, told = {
        "nobody": ({}, [], "is the server running there?"),
        "no plugin": ({"/v1/agentrt/capabilities": (404, {})}, [], "VLLM_PLUGINS=agentrt"),
        "no model": ({}, ["--model", "huge"], "has no model huge; it serves tiny"),
        "no tools": (
            {"/v1/chat/completions": (400, refusal)},
            [],
            "--enable-auto-tool-choice",
        ),
        "no usage": ({"/v1/chat/completions": (200, {"usage": {}})}, [], "--enable-prompt-tokens-details"),
    }[wrong]
    url = nobody if wrong == "nobody" else server({**healthy, **changes})
    said = agentrt("demo", "--base-url", url, *argv)
    assert (said.code, said.out) == (1, "")
    assert told in said.err
    assert said.err.count("\n") == 1


def test_a_missing_extra_is_said(agentrt, monkeypatch):
    """Without the extra `demo` the command says what to install."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "agentrt.cli.progress", raising=False)
    said = agentrt("demo")
    assert said.code == 1
    assert "pip install 'agentrt[demo]'" in said.err


def test_python_dash_m():
    """`python -m agentrt` is the command, with its exit code."""
    run = subprocess.run([sys.executable, "-m", "agentrt", "doctor"], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "usage: agentrt doctor" in run.stderr

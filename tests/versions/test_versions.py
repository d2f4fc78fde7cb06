"""The oldest versions that are tested are the oldest that are promised."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LANGGRAPH = ["langgraph", "langchain-core", "langchain", "langchain-openai"]


def _requirements(lines):
    """Lower bounds and pins, by name."""
    found = (re.match(r"([\w.-]+)(?:\[[\w,]*\])?\s*(?:>=|==)\s*([\w.]+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


PINS = _requirements((HERE / "oldest.txt").read_text(encoding="utf-8").splitlines())
PROJECT = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BOUNDS = _requirements(line for extra in PROJECT["optional-dependencies"].values() for line in extra)


@pytest.mark.parametrize("name", LANGGRAPH)
def test_lower_bounds_are_what_is_tested(name):
    """A lower bound in pyproject.toml and its pin in oldest.txt move together."""
    assert PINS[name] == BOUNDS[name]


def test_every_pin_has_a_reason():
    """Beside the bounds, oldest.txt pins only the OpenAI client, which langchain-openai brings."""
    assert set(PINS) == {*LANGGRAPH, "openai"}


def test_the_environment_is_all_old_or_not_pinned():
    """An environment with the oldest LangGraph has every pin, and an OpenAI client on httpx: the oldest allowed."""
    if importlib.metadata.version("langgraph") != PINS["langgraph"]:
        return
    assert {name: importlib.metadata.version(name) for name in PINS} == PINS
    (openai,) = (line for line in importlib.metadata.requires("langchain-openai") or () if re.match(r"openai\b", line))
    assert f">={PINS['openai']}" in openai.replace(" ", "")
    source = importlib.metadata.distribution("openai").locate_file("openai/_base_client.py")
    assert "import httpx\n" in Path(str(source)).read_text(encoding="utf-8")

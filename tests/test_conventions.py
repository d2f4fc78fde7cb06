import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
SOURCES = sorted(path for folder in ("agentrt", "integrations", "examples") for path in (ROOT / folder).rglob("*.py"))


def facts_in(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            yield node


@pytest.mark.parametrize("path", TESTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_test_states_its_fact(path):
    """A test without a docstring does not say what it holds true."""
    silent = [node.name for node in facts_in(path) if not ast.get_docstring(node)]
    assert not silent


@pytest.mark.parametrize("path", TESTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_test_sleeps_to_wait(path):
    """Waiting is for an event, a join or a deadline, not for a number of seconds."""
    assert not re.search(r"\b(time|asyncio)\.sleep\(\s*[1-9]", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["agentrt", "agentrt_langgraph", "agentrt_vllm"])
def test_what_is_public_exists_and_is_documented(name):
    """Every name in __all__ can be imported, and says what it promises."""
    module = importlib.import_module(name)
    assert sorted(module.__all__) == sorted(set(module.__all__))
    for public in module.__all__:
        thing = getattr(module, public)
        assert public.startswith("__") or thing.__doc__, public


def test_packages_are_typed():
    """Each import package carries the marker that type checkers look for."""
    for package in ("agentrt", "integrations/langgraph/agentrt_langgraph", "integrations/vllm/agentrt_vllm"):
        assert (ROOT / package / "py.typed").exists()


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_says_what_it_is(path):
    """A file that holds code opens with a docstring."""
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text))

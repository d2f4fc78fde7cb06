"""The team's tools: a toy repository that lives in the conversation's state. Nothing touches disk or network.

A tool raises on arguments that make no sense; the tool node hands the error's text back to the model.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Any

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, InjectedToolCallId, tool
from langgraph.prebuilt import InjectedState
from langgraph.types import Command

MAX_PATH_CHARS = 120
MAX_FILE_CHARS = 20_000
MAX_HITS = 24
CONTEXT_LINES = 1
FAILING_SHARE = 0.25

REPOSITORY: dict[str, str] = {
    f"lib/{path.name}": path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parent / "repository").glob("*.py"))
}
"""The code that every project of the team starts with."""

TESTS = (
    "test_plan_checks",
    "test_empty_input",
    "test_one_element",
    "test_limits_of_the_types",
    "test_text_beyond_ascii",
    "test_called_twice",
    "test_two_callers_at_once",
    "test_errors_name_the_value",
)

State = Annotated[dict[str, Any], InjectedState]


@tool
def search_code(query: str, state: State) -> str:
    """Find the places in the project's files and in the team's library that contain one of the query's words."""
    words = query.lower().split()
    if not words:
        raise ValueError("search_code needs a query of at least one word")
    hits = []
    for path, text in _files(state).items():
        lines = text.splitlines()
        for number, line in enumerate(lines):
            if any(word in line.lower() for word in words):
                around = lines[max(0, number - CONTEXT_LINES) : number + CONTEXT_LINES + 1]
                hits.append(f"{path}:{number + 1}:\n" + "\n".join(f"    {shown}" for shown in around))
    if not hits:
        return f"no line contains a word of {query!r}; files: {', '.join(_files(state))}"
    more = [f"({len(hits) - MAX_HITS} more)"] if len(hits) > MAX_HITS else []
    return "\n".join([*hits[:MAX_HITS], *more])


@tool
def read_file(path: str, state: State) -> str:
    """Return the current text of one file of the project."""
    files = _files(state)
    if path not in files:
        raise ValueError(f"no such file: {path!r}; there are {', '.join(files)}")
    return files[path]


@tool
def write_file(path: str, content: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[str]:
    """Replace one whole file of the project with the given content."""
    if not 0 < len(path) <= MAX_PATH_CHARS or path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"not a path inside the project: {path[:MAX_PATH_CHARS]!r}")
    if len(content) > MAX_FILE_CHARS:
        raise ValueError(f"{path} has {len(content)} characters; at most {MAX_FILE_CHARS} are allowed")
    report = f"wrote {path}: {len(content.splitlines())} lines, {len(content)} characters"
    return Command(
        update={
            "files": {path: content},
            "messages": [ToolMessage(report, tool_call_id=tool_call_id, name="write_file")],
        }
    )


@tool
def run_tests(state: State, selector: str = "") -> str:
    """Run the tests whose names contain the selector; all of them when it is empty or matches none."""
    written = sorted(state.get("files", {}).items())
    chosen = [name for name in TESTS if selector.strip().lower() in name] or list(TESTS)
    failed = [name for name in chosen if _fails(name, written)]
    lines = [f"{'FAILED' if name in failed else 'passed'} tests/{name}.py::{name}" for name in chosen]
    for name in failed:
        lines += ["", f"____ {name} ____", *_traceback(name, written)]
    summary = f"{len(failed)} failed, {len(chosen) - len(failed)} passed; {len(written)} files under test"
    return "\n".join([f"collected {len(chosen)} tests for {selector!r}", *lines, "", summary])


def _files(state: dict[str, Any]) -> dict[str, str]:
    return {**REPOSITORY, **state.get("files", {})}


def _fails(test: str, files: list[tuple[str, str]]) -> bool:
    """Chance, but the same one every time: a test's result changes only when the files do."""
    digest = hashlib.sha256(repr((test, files)).encode()).digest()
    return digest[0] / 256 < FAILING_SHARE


def _traceback(test: str, files: list[tuple[str, str]]) -> list[str]:
    """What a failed test shows: its own lines, then the file it was in."""
    path, text = files[-1] if files else next(iter(REPOSITORY.items()))
    shown = text.splitlines()[:6]
    return [
        f"    def {test}(project):",
        f"        expected = project.expected({test.removeprefix('test_')!r})",
        f"        actual = project.run({test.removeprefix('test_')!r})",
        ">       assert actual == expected",
        "E       AssertionError: the value differs from the one the design names",
        "E         - expected",
        "E         + actual",
        f"{path}:{len(shown)}: in the frame that returned it:",
        *(f"        {line}" for line in shown),
    ]


CODER_TOOLS: tuple[BaseTool, ...] = (search_code, read_file, write_file)
TESTER_TOOLS: tuple[BaseTool, ...] = (run_tests, read_file)

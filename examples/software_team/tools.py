"""The team's tools: a toy repository that lives in the conversation's state. Nothing touches disk or network.

A tool raises on arguments that make no sense; the tool node hands the error's text back to the model.
"""

import hashlib
from typing import Annotated, Any

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, InjectedToolCallId, tool
from langgraph.prebuilt import InjectedState
from langgraph.types import Command

MAX_PATH_CHARS = 120
MAX_FILE_CHARS = 20_000
MAX_HITS = 8
FAILING_SHARE = 0.25

SNIPPETS: dict[str, str] = {
    "lib/clock.py": "def monotonic_s() -> float: ...  # replace it in tests\ndef today_utc() -> date: ...",
    "lib/errors.py": "class BadInput(ValueError): ...  # carries the offending value\nclass Conflict(Exception): ...",
    "lib/files.py": "def read_lines(path: Path) -> list[str]: ...\ndef write_atomically(path: Path, text: str): ...",
    "lib/retry.py": "def retry(call: Callable[[], T], *, attempts: int, pause_s: float, on: type[Exception]) -> T: ...",
    "lib/locks.py": "class FileLock: ...  # between processes\nclass Lease: ...  # runs out after ttl_s",
    "lib/text.py": "def normalise(text: str) -> str: ...\ndef edit_distance(left: str, right: str) -> int: ...",
}
"""What `search_code` finds beside the team's own files."""

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
    """Find lines in the project's files and in the team's snippet library that contain the query."""
    wanted = query.strip().lower()
    if not wanted:
        raise ValueError("search_code needs a query of at least one character")
    files = {**SNIPPETS, **state.get("files", {})}
    hits = [
        f"{path}:{number}: {line.strip()}"
        for path, text in sorted(files.items())
        for number, line in enumerate(text.splitlines(), start=1)
        if any(word in line.lower() for word in wanted.split())
    ]
    shown = "\n".join(hits[:MAX_HITS])
    more = f"\n({len(hits) - MAX_HITS} more)" if len(hits) > MAX_HITS else ""
    return f"{shown}{more}" if hits else f"no line contains {query!r}; files: {', '.join(sorted(files))}"


@tool
def read_file(path: str, state: State) -> str:
    """Return the current text of one file of the project."""
    files: dict[str, str] = {**SNIPPETS, **state.get("files", {})}
    if path not in files:
        raise ValueError(f"no such file: {path!r}; there are {', '.join(sorted(files))}")
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
    """Run the tests whose names contain the selector, all of them when it is empty."""
    chosen = [name for name in TESTS if selector.strip().lower() in name]
    if not chosen:
        return f"collected 0 tests for {selector!r}; there are {', '.join(TESTS)}"
    files = sorted(state.get("files", {}).items())
    lines, failed = [], 0
    for name in chosen:
        if _fails(name, files):
            failed += 1
            lines.append(f"FAILED {name}: expected the value the design names, got another one")
        else:
            lines.append(f"passed {name}")
    return "\n".join([*lines, f"{len(chosen) - failed} passed, {failed} failed, {len(files)} files under test"])


def _fails(test: str, files: list[tuple[str, str]]) -> bool:
    """Chance, but the same one every time: a test's result changes only when the files do."""
    digest = hashlib.sha256(repr((test, files)).encode()).digest()
    return digest[0] / 256 < FAILING_SHARE


CODER_TOOLS: tuple[BaseTool, ...] = (search_code, read_file, write_file)
TESTER_TOOLS: tuple[BaseTool, ...] = (run_tests, read_file)

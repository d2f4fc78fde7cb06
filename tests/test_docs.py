import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("README.md"))]
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(language):
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match[1] == language:
                line = text[: match.start()].count("\n") + 1
                found.append(pytest.param(match[2], id=f"{page.relative_to(ROOT)}:{line}"))
    return found


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run_as_they_stand(code, tmp_path):
    """Every Python block of the README and the docs runs by itself, in a fresh process, warnings as errors."""
    script = tmp_path / "block.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-I", str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    """A relative link names a file that exists."""
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("code", blocks("bash"))
def test_commands_in_the_docs_exist(code):
    """Every `agentrt` or `make` command a page shows is one that there is."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in code.splitlines():
        words = line.split("#")[0].split()
        if words[:1] == ["make"]:
            assert words[1] in targets, line
        if words[:1] == ["agentrt"]:
            done = subprocess.run(
                [sys.executable, "-Im", "agentrt", words[1], "--help"], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, line
            options = [w.split("=")[0] for w in words[2:] if w.startswith("--")]
            assert all(option in done.stdout for option in options), line

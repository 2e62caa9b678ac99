"""The README and the guide tell the truth: their Python runs, their links lead somewhere."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from keeper import run_kept

ROOT = Path(__file__).resolve().parents[2]

TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS += [ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]

SNIPPETS = [
    pytest.param(snippet, id=f"{path.stem}-{number}")
    for path in TEXTS
    for number, snippet in enumerate(
        re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL), 1
    )
]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_runs_and_says_what_its_comments_say(snippet: str, tmp_path: Path) -> None:
    script = tmp_path / "snippet.py"
    script.write_text(snippet)
    ended = run_kept([sys.executable, str(script)], tmp_path / "home", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    wanted = re.findall(r"^ *print\(.*\) +# (.*)$", snippet, re.MULTILINE)
    assert [line for line in ended.stdout.splitlines() if line in wanted] == wanted, ended.stdout


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_lead_to_files(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_every_error_that_the_texts_name_exists() -> None:
    import fxhpc.errors

    rows = (ROOT / "docs" / "api.md").read_text().split("## Errors", 1)[1]
    for line in rows.splitlines():
        for name in re.findall(r"`([A-Z]\w+)`", line.split("|")[1] if "|" in line else ""):
            assert hasattr(fxhpc.errors, name), name


def test_the_texts_name_the_variables_that_exist() -> None:
    named: set[str] = set()
    for path in TEXTS:
        named |= _variables(path)
    used: set[str] = set()
    for path in (ROOT / "fxhpc").rglob("*"):
        if path.suffix in (".py", ".sh"):
            used |= _variables(path)
    for_tests = {name for path in (ROOT / "tests").rglob("*.py") for name in _variables(path)}
    assert used <= named
    assert named <= used | for_tests


def _variables(path: Path) -> set[str]:
    return set(re.findall(r"\bFXHPC_[A-Z]+(?:_[A-Z]+)*", path.read_text()))

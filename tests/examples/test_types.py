"""Type checkers see every public name with its type, and refuse a wrong use."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXAMPLES = [HERE / f"{name}.py" for name in ("keys", "coordination", "synchronous", "errors")]
WRONG_USES = HERE / "wrong_uses.py"

pytestmark = [
    pytest.mark.slow,  # each checker takes seconds
    pytest.mark.timeout(300),
]

PYRIGHT_SETTINGS = {
    # pyright's own rules, without what basedpyright adds to them.
    "typeCheckingMode": "strict",
    # Of the style of a program, and not of what it does with raftkv.
    "reportUnusedExpression": False,
    "reportUnusedCoroutine": False,
    "reportUnusedImport": False,
    "reportUnusedVariable": False,
}


def run(*command: str) -> str:
    """What a checker prints. Both end with 1 if they have found something."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def mypy(paths: list[Path], cache: Path) -> dict[tuple[str, int], str]:
    """The errors by file name and line."""
    said = run(
        *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary"),
        *("--hide-error-context", "--no-pretty"),
        # A cache of its own: one on another Python path is as good as none.
        *("--cache-dir", os.fspath(cache)),
        *map(os.fspath, paths),
    )
    found = re.findall(r"^(.+?):(\d+): error: (.*)$", said, re.MULTILINE)
    return {(Path(path).name, int(line)): message for path, line, message in found}


def pyright(paths: list[Path], directory: Path) -> dict[tuple[str, int], str]:
    """The errors by file name and line."""
    project = directory / "pyrightconfig.json"
    settings = {"include": [os.fspath(path) for path in paths], "extraPaths": [os.fspath(ROOT)]}
    project.write_text(json.dumps({**settings, **PYRIGHT_SETTINGS}))
    said = run(
        *(sys.executable, "-m", "basedpyright", "--outputjson", "--level", "error"),
        *("--pythonpath", sys.executable, "--project", os.fspath(project)),
    )
    report = json.loads(said)
    assert report["summary"]["filesAnalyzed"] >= len(paths), report
    return {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1): each["message"]
        for each in report["generalDiagnostics"]
        if each["severity"] == "error"
    }


def refused() -> set[tuple[str, int]]:
    lines = WRONG_USES.read_text().splitlines()
    return {
        (WRONG_USES.name, number)
        for number, line in enumerate(lines, 1)
        if line.endswith("# refused")
    }


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_the_examples_have_the_types_that_they_claim(checker, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert checker(EXAMPLES, tmp_path) == {}


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_every_wrong_use_is_refused_and_nothing_else(checker, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    found, marked = checker([WRONG_USES], tmp_path), refused()
    assert len(marked) > 20
    assert found.keys() - marked == set(), {key: found[key] for key in found.keys() - marked}
    assert marked - found.keys() == set()

"""The examples in the docstring of the package run."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import raftkv.clocks


def test_the_example_in_the_docstring_runs(tmp_path: Path) -> None:
    lines = (raftkv.clocks.__doc__ or "").splitlines()
    code = "\n".join(line for line in lines if line.startswith("    "))
    assert code.count("assert") == 4
    exec(dedent(code), {"directory": tmp_path})

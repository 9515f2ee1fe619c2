"""Closed, full and broken standard streams, in any locale: no traceback, no false exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_real_processes import ROOT

# The command in a process of its own, with a client that writes down what it has stored.
COMMAND = """
import asyncio, os, pathlib, sys
from raftkv.cli import main
from tests.cli.conftest import FakeClient, talk_to

class Patch:
    setattr = staticmethod(setattr)

fake = FakeClient()
if "STORED_BEFORE" in os.environ:
    asyncio.run(fake.put("€".encode(), b"v"))
talk_to(fake, Patch())
try:
    main.main()
finally:
    with open(sys.prefix + "/pyvenv.cfg") as opened:
        descriptor = opened.fileno()
    stored = {key.decode(): kv.value.decode() for key, kv in fake.kvs.items()}
    pathlib.Path(STORED).write_text(f"{stored} {descriptor > 2}", "utf-8")
"""


def run(
    tmp_path: Path, *arguments: str, redirected: str = "", env: dict[str, str] | None = None
) -> tuple[subprocess.CompletedProcess[bytes], str]:
    """What `raftkv` left behind, and what it has stored. `redirected` is said to the shell."""
    stored = tmp_path / "stored"
    script = tmp_path / "command.py"
    script.write_text(f"STORED = {str(stored)!r}\n{COMMAND}", encoding="utf-8")
    done = subprocess.run(
        ["bash", "-c", f'"$@" {redirected}', "bash", sys.executable, script, *arguments],
        capture_output=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), **(env or {})},
    )
    assert b"Traceback" not in done.stdout + done.stderr
    return done, stored.read_text()


@pytest.mark.parametrize(
    ("redirected", "code"),
    [
        ("<&- >&- 2>&-", 13),
        pytest.param(">/dev/full", 13, marks=pytest.mark.slow),
        ("| true; exit ${PIPESTATUS[0]}", 141),
        pytest.param("2>/dev/full", 0, marks=pytest.mark.slow),
    ],
)
def test_a_failed_output_does_not_report_a_write_as_failed(
    tmp_path: Path, redirected: str, code: int
) -> None:
    done, stored = run(tmp_path, "put", "k", "v", redirected=redirected)
    assert (done.returncode, stored) == (code, "{'k': 'v'} True")


def test_a_failed_command_keeps_its_exit_code_if_output_fails(tmp_path: Path) -> None:
    done, _ = run(tmp_path, "cas", "k", "v", "--if-value", "x", redirected=">/dev/full")
    assert done.returncode == 3
    assert b"the output can't be written (No space left on device)" in done.stderr


def test_a_value_from_a_closed_standard_input_is_refused(tmp_path: Path) -> None:
    done, stored = run(tmp_path, "put", "k", "-", redirected="<&-")
    assert (done.returncode, stored) == (2, "{} True")
    assert (
        b"standard input can't be read (Bad file descriptor), and nothing was sent" in done.stderr
    )


def test_a_non_blocking_pipe_gets_all_output() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    code = "from raftkv.cli import streams; streams.prepare(); print('v' * 300_000)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=writer, cwd=ROOT) as process:
        os.close(writer)
        with open(reader, "rb") as pipe:
            assert pipe.read() == b"v" * 300_000 + b"\n"
    assert process.returncode == 0


@pytest.mark.parametrize(
    "env",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        pytest.param({"PYTHONIOENCODING": "latin-1"}, marks=pytest.mark.slow),
    ],
)
def test_output_is_utf_8_in_every_locale(tmp_path: Path, env: dict[str, str]) -> None:
    done, _ = run(tmp_path, "range", "-o", "json", env={**env, "STORED_BEFORE": "1"})
    assert done.returncode == 0
    assert '"key": "€"'.encode() in done.stdout

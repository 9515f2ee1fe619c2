"""The command line itself: global options, help, completion, exit codes, what a start imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

from raftkv.cli.exit_codes import MEANINGS, ExitCode, exit_code_of
from raftkv.cli.options import hoist
from raftkv.errors import BY_REASON, RaftkvError, StorageError, Unavailable
from tests.cli.conftest import Raftkv


@pytest.mark.parametrize(
    ("given", "moved"),
    [
        (["get", "k", "--output", "json"], ["--output", "json", "get", "k"]),
        (["get", "-o", "json", "k"], ["-o", "json", "get", "k"]),
        (["status", "--timeout=2", "-w"], ["--timeout=2", "status", "-w"]),
        (["put", "k", "--", "--output", "x"], ["put", "k", "--", "--output", "x"]),
        (["get", "k", "-e"], ["-e", "get", "k"]),
        ([], []),
    ],
)
def test_global_options_may_stand_anywhere(given: list[str], moved: list[str]) -> None:
    assert hoist(given) == moved


def test_every_exit_code_is_explained_in_the_help(raftkv: Raftkv) -> None:
    assert set(MEANINGS) == set(ExitCode)
    shown = raftkv("--help", env={"COLUMNS": "120"}).text
    for code, meaning in MEANINGS.items():
        assert f"{code.value}  {meaning}" in shown


def test_every_error_has_an_exit_code_that_says_what_may_have_happened() -> None:
    for kind in BY_REASON.values():
        code = exit_code_of(kind("it happened"))
        assert code is not ExitCode.OK
        if issubclass(kind, Unavailable):
            assert code is ExitCode.UNAVAILABLE
        if issubclass(kind, StorageError):
            assert code is ExitCode.STORAGE
    assert exit_code_of(RaftkvError("?")) is ExitCode.ERROR


def test_a_command_that_does_not_exist_is_a_usage_error(raftkv: Raftkv) -> None:
    assert raftkv("putt", "k", "v").code == 2
    assert raftkv("put", "k").code == 2


def test_the_shell_completes_commands(raftkv: Raftkv) -> None:
    completing = {
        "_RAFTKV_COMPLETE": "complete_bash",
        "COMP_WORDS": "raftkv tra",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "raftkv"],
        env=completing,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["transfer-leader"]


def test_the_command_starts_without_grpc_server_or_event_loop() -> None:
    heavy = (
        "grpc",
        "google.protobuf",
        "rocksdict",
        "structlog",
        "asyncio",
        "rich",
        "raftkv.server",
    )
    program = (
        f"import sys, raftkv.cli.main;print(*(name for name in {heavy!r} if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []

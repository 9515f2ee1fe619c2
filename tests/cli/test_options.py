"""The command line itself: global options, help, completion, exit codes, what a start imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

from raftkv.cli import holding, main, session, streams
from raftkv.cli.exit_codes import MEANINGS, ExitCode, exit_code_of
from raftkv.cli.options import hoist
from raftkv.errors import BY_REASON, NotElected, RaftkvError, StorageError, Unavailable
from tests.cli.conftest import FakeClient, Raftkv
from tests.cli.test_real_processes import ROOT


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
    assert exit_code_of(NotElected("others lead")) is ExitCode.NOT_ACQUIRED


def test_a_command_that_does_not_exist_is_a_usage_error(raftkv: Raftkv) -> None:
    assert raftkv("putt", "k", "v").code == 2
    assert raftkv("put", "k").code == 2


@pytest.mark.parametrize("words", [["true"], ["echo", "hi"], ["--ttl", "5", "--", "true"], []])
def test_a_lock_without_a_name_is_a_usage_error(raftkv: Raftkv, words: list[str]) -> None:
    ran = raftkv("lock", *words) if "--" in words else raftkv("lock", "--", *words)
    assert ran.code == 2
    assert "name missing: raftkv lock NAME -- COMMAND" in ran.err


def test_the_help_of_lock_needs_no_name(raftkv: Raftkv) -> None:
    assert raftkv("lock", "--help", "--", "true").code == 0


@pytest.mark.parametrize(
    "words", [["n", "--", "true"], ["--", "-n", "--", "true"], ["--ttl", "5", "--", "-n"], ["n"]]
)
def test_two_dashes_part_the_lock_from_its_command(
    raftkv: Raftkv, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bytes, list[str]]] = []
    monkeypatch.setattr(session, "run", lambda *_: 0)
    monkeypatch.setattr(holding, "lock", lambda name, *_: seen.append((name, [])))
    monkeypatch.setattr(
        holding, "guard", lambda name, ttl, options, command, grace: seen.append((name, command))
    )
    assert raftkv("lock", *words).code == 0
    name = b"-n" if "-n" in words else b"n"
    assert seen == [(name, ["true"] if "true" in words else [])]


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


@pytest.mark.parametrize(
    "line",
    [
        ("--timeout", "nan", "get", "k"),
        ("--timeout", "-1", "get", "k"),
        ("lock", "--ttl", "nan", "k"),
        ("lock", "--grace", "nan", "k"),
        ("status", "--interval", "nan"),
        ("bench", "--seconds", "nan"),
    ],
)
def test_seconds_that_are_no_number_or_negative_are_refused_by_the_option_s_name(
    raftkv: Raftkv, client: FakeClient, line: tuple[str, ...]
) -> None:
    ran = raftkv(*line)
    assert ran.code == 2
    assert next(word for word in line if word.startswith("--")) in ran.err
    assert not client.calls


def test_a_timeout_of_0_is_passed_on(raftkv: Raftkv, client: FakeClient) -> None:
    ran = raftkv("--timeout", "0", "put", "k", "v")
    assert (ran.code, client.kvs[b"k"].value) == (0, b"v")


def test_an_error_of_ours_is_not_reported_as_a_failure_that_applied_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def defective(**_: object) -> None:
        raise KeyError("nobody expected this")

    monkeypatch.setattr(streams, "prepare", lambda: None)
    monkeypatch.setattr(main, "app", defective)
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == ExitCode.DEFECT
    assert "nobody expected this" in capsys.readouterr().err


def test_every_exit_code_is_in_the_documentation() -> None:
    rows = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8").splitlines()
    assert {row.split("|")[1].strip() for row in rows if row.startswith("|")} >= {
        str(code.value) for code in ExitCode
    }

"""A run's files survive a crash of the harness, and can be read back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jepsen_lite.cli import app, main
from jepsen_lite.history import Event, History, Kind
from jepsen_lite.judge import judge
from jepsen_lite.store import RunDirectory, Store, WrittenHistory
from jepsen_lite.verdicts import Finding, Problem, Validity, overall
from jepsen_lite.workloads.catalogue import WORKLOADS

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
LATER = datetime(2026, 11, 22, 12, 0, 1, tzinfo=UTC)
WRITE = [
    Event(1, 0, Kind.INVOKE, "register", "write", "register/0", "v1"),
    Event(2, 0, Kind.OK, "register", "write", "register/0", 2),
]
READ = [
    Event(3, 1, Kind.INVOKE, "register", "read", "register/0", None),
    Event(4, 1, Kind.OK, "register", "read", "register/0", ["v1", 2]),
]
FAULT = {
    "name": "kill",
    "target": "node-1",
    "began_ns": 1,
    "ended_ns": 9,
    "detail": "",
    "took_effect": True,
}


def a_run(
    root: Path, events: list[Event], faults: list[dict[str, object]], problems: list[str]
) -> RunDirectory:
    directory = Store(root).new_run("register", NOW)
    directory.write_test(
        {
            "workloads": ["register"],
            "nemeses": ["kill"],
            "options": {"rate": 0.0},
            "problems": problems,
            "command": ["jepsen-lite", "run"],
        }
    )
    history = WrittenHistory(directory)
    for event in events:
        history.append(event)
    history.close()
    for fault in faults:
        directory.add_fault(fault)
    return directory


def test_latest_is_the_last_run(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for now in (NOW, LATER):
        directory = store.new_run("set", now)
        directory.write_test({})
        assert (tmp_path / "latest").resolve() == directory.path
    assert [run.path.name for run in store.runs()] == [
        "set-20261122T120000.000000Z",
        "set-20261122T120001.000000Z",
    ]


def test_runs_come_in_the_order_in_which_they_began_also_when_one_is_judged_again(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    first, second = store.new_run("zoo", NOW), store.new_run("append", LATER)
    for directory in (second, first):
        directory.write_test({})
    assert [run.path for run in store.runs()] == [first.path, second.path]


def test_an_existing_cluster_needs_endpoints() -> None:
    result = CliRunner().invoke(app, ["run", "--system", "existing", "--workload", "set"])
    assert result.exit_code
    assert "--endpoints" in result.output


def test_every_event_is_on_disk_before_the_next(tmp_path: Path) -> None:
    directory = Store(tmp_path).new_run("register", NOW)
    history = WrittenHistory(directory)
    for count, event in enumerate(WRITE + READ, 1):
        history.append(event)
        assert len(directory.history().events) == count
    history.close()
    assert directory.history().events == WRITE + READ


def test_results_hold_the_validity_and_all_findings(tmp_path: Path) -> None:
    directory = Store(tmp_path).new_run("register", NOW)
    finding = Finding("set", Validity.INVALID, (Problem("lost", (1, 2)),), {"adds": 3})
    directory.write_results([finding])
    assert json.loads((directory.path / "results.json").read_text()) == {
        "validity": "invalid",
        "findings": [
            {
                "checker": "set",
                "validity": "invalid",
                "problems": [{"text": "lost", "events": [1, 2]}],
                "statistics": {"adds": 3},
            }
        ],
    }
    assert directory.validity() == "invalid"


@pytest.mark.parametrize(
    ("events", "faults", "problems", "code"),
    [
        (WRITE + READ, [FAULT], [], 0),
        (WRITE, [FAULT], ["node-2 does not serve"], 1),
        (READ, [FAULT], [], 1),
        (WRITE + READ, [], [], 3),
        (WRITE + READ, [{**FAULT, "took_effect": False}], [], 3),
        (WRITE + READ, [{**FAULT, "began_ns": 100, "ended_ns": 200}], [], 3),
    ],
    ids=["valid", "not recovered", "invented", "no fault", "no effect", "never both"],
)
def test_the_exit_code_is_that_of_the_verdict(
    tmp_path: Path,
    events: list[Event],
    faults: list[dict[str, object]],
    problems: list[str],
    code: int,
) -> None:
    directory = a_run(tmp_path, events, faults, problems)
    result = CliRunner().invoke(app, ["check", str(directory.path)])
    assert result.exit_code == code, result.output
    assert (directory.path / "report.html").exists()


IDLE = {**FAULT, "name": "pause", "took_effect": False}


@pytest.mark.parametrize("idle", [[], [IDLE], [IDLE] * 3], ids=["never begun", "once", "often"])
def test_a_kind_of_fault_that_never_takes_effect_makes_the_run_vacuous(
    tmp_path: Path, idle: list[dict[str, object]]
) -> None:
    directory = a_run(tmp_path, WRITE + READ, [FAULT, *idle], [])
    directory.write_test({**directory.test(), "nemeses": ["kill", "pause"]})
    assert overall(judge(directory)) is Validity.VACUOUS


def ended(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr("sys.argv", ["jepsen-lite", *arguments])
    with pytest.raises(SystemExit) as ending:
        main()
    return ending.value.code


def test_a_wrong_use_and_an_unknown_verdict_end_differently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = a_run(tmp_path, WRITE + READ, [FAULT], [])
    directory.write_test({**directory.test(), "crash": "the run was interrupted"})
    assert ended(monkeypatch, "check", str(directory.path)) == 2
    assert ended(monkeypatch, "check", str(tmp_path / "nothing")) == 254
    assert ended(monkeypatch, "run", "--workload", "nonsense") == 254
    assert ended(monkeypatch, "run", "--workload", "register", "--nodes", "4") == 254


def test_a_run_that_is_too_short_for_each_kind_of_fault_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--workload", "register", "--nemesis", "kill,pause,partition", "--seconds", "3"]
    assert ended(monkeypatch, "run", *asked) == 254
    assert "--seconds 3.5 or more" in " ".join(capsys.readouterr().err.replace("│", "").split())


def test_a_failure_of_the_harness_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(directory: RunDirectory) -> list[Finding]:
        raise ZeroDivisionError

    monkeypatch.setattr("jepsen_lite.judge.judge", failing)
    directory = a_run(tmp_path, WRITE + READ, [FAULT], [])
    assert ended(monkeypatch, "check", str(directory.path)) == 2


class Broken:
    """A workload whose checker has a bug."""

    def check(self, history: History) -> list[Finding]:
        raise ZeroDivisionError


def test_a_checker_that_raises_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = a_run(tmp_path, WRITE + READ, [FAULT], [])
    monkeypatch.setitem(WORKLOADS, "register", Broken)  # type: ignore[arg-type]
    assert overall(judge(directory)) is Validity.UNKNOWN

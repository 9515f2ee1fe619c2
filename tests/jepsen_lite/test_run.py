"""A run on a database that does not start, does not stay up, or can not be cleaned up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from jepsen_lite.db.base import Database, DatabaseFailed
from jepsen_lite.history import History
from jepsen_lite.judge import judge
from jepsen_lite.options import RunOptions
from jepsen_lite.store import RunDirectory
from jepsen_lite.verdicts import Finding, Validity
from jepsen_lite.workloads.base import Invocation, Session
from jepsen_lite.workloads.catalogue import WORKLOADS
from raftkv.client.client import Client
from tests.jepsen_lite.idle_database import Idle, run_on_virtual_time

pytestmark = pytest.mark.filterwarnings("ignore:delta is less than resolution")


class Easy:
    """Every operation succeeds."""

    name = "easy"
    reads = frozenset({"read"})

    def next(self, rng: Random, worker: int) -> Invocation:
        return Invocation("read", "k")

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        return None

    def final(self) -> Sequence[Invocation]:
        return []

    def check(self, history: History) -> list[Finding]:
        return []


class One(Idle):
    """Its clients get an answer to everything."""

    async def connect(self, node: str = "") -> Client:
        return AsyncMock()


class NotStarting(One):
    async def start(self) -> None:
        raise DatabaseFailed("no node at 127.0.0.1:1")


class NotEnding(One):
    async def stop(self) -> None:
        raise DatabaseFailed("a disk is still mounted")


class Dying(One):
    def died(self) -> list[str]:
        return ["node-1 ended by itself with code 8"]


async def judged(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch, progress: Any = None
) -> tuple[Finding, RunDirectory]:
    """The finding of the harness about a short run, and its directory."""
    monkeypatch.setitem(WORKLOADS, "easy", Easy)
    options = RunOptions("one", ("easy",), (), 2.0, 1, 2, 20.0, 1)
    directory = await run_on_virtual_time(options, database, path, monkeypatch, progress)
    return judge(directory)[0], directory


async def test_a_run_on_a_good_database_has_no_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding, _ = await judged(One(), tmp_path, monkeypatch)
    assert (finding.validity, finding.problems) == (Validity.VALID, ())


async def test_a_node_that_dies_makes_the_run_invalid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding, _ = await judged(Dying(), tmp_path, monkeypatch)
    assert finding.validity is Validity.INVALID
    assert "ended by itself with code 8" in finding.problems[0].text


async def test_a_cluster_that_never_started_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding, _ = await judged(NotStarting(), tmp_path, monkeypatch)
    assert finding.validity is Validity.UNKNOWN
    assert finding.problems[0].text == ("the cluster could not be started: no node at 127.0.0.1:1")


async def test_no_checker_calls_a_run_valid_that_has_no_operation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, directory = await judged(NotStarting(), tmp_path, monkeypatch)
    findings = judge(directory)
    assert [each.checker for each in findings] == ["recovery", "easy"]
    assert {each.validity for each in findings} == {Validity.UNKNOWN}


async def test_a_failed_clean_up_is_reported_and_keeps_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding, directory = await judged(NotEnding(), tmp_path, monkeypatch)
    assert finding.validity is Validity.UNKNOWN
    assert "a disk is still mounted" in finding.problems[0].text
    assert len(list(directory.history().operations("easy"))) > 10


async def test_a_database_is_stopped_though_its_progress_can_not_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def phase(name: str, seconds: float | None) -> None:
        if name == "stop":
            raise OSError("the terminal is gone")

    database = One()
    stop = AsyncMock()
    monkeypatch.setattr(database, "stop", stop)
    finding, _ = await judged(database, tmp_path, monkeypatch, Mock(phase=phase))
    assert stop.await_count == 1
    assert finding.validity is Validity.UNKNOWN

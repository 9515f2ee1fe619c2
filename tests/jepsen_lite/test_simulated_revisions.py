"""Every revision is that of a change: a revision without one, or a gap, fails the run."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest

from jepsen_lite.sim.checks.state_machine import check_revisions
from jepsen_lite.sim.checks.violation import Violation
from jepsen_lite.sim.run import run
from jepsen_lite.sim.scenarios import SCENARIOS
from raftkv.kv.commands import CommandRunner
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.kv.meta import META_KEY, Meta
from raftkv.kv.pace import Steps
from raftkv.kv.records import CHANGE_PUT, change_key
from raftkv.kv.store import Family
from raftkv.rpc.v1 import kv_pb2
from raftkv.storage.memory_state import MemoryStateStore

pytestmark = pytest.mark.usefixtures("quiet_nodes")


def machine_at(revision: int, *changes: tuple[int, int], compacted: int = 0) -> StateMachine:
    """A machine with changes of these revisions and positions."""
    store = MemoryStateStore()
    meta = Meta(revision=revision, compacted_revision=compacted)
    store.write(
        {
            Family.META: {META_KEY: meta.encode()},
            Family.CHANGES: {change_key(*each): CHANGE_PUT + b"key" for each in changes},
        }
    )
    return StateMachine(store, Limits())


def test_one_revision_for_each_changing_command_is_valid() -> None:
    machine = machine_at(4, (2, 0), (3, 0), (3, 1), (4, 0))
    assert check_revisions(1, machine, seen=0) == 4
    assert check_revisions(1, machine, seen=3) == 4
    assert check_revisions(1, machine_at(1), seen=0) == 1


def test_revisions_that_were_compacted_before_a_snapshot_need_no_changes() -> None:
    assert check_revisions(1, machine_at(9, (8, 0), (9, 0), compacted=8), seen=3) == 9
    assert check_revisions(1, machine_at(9, compacted=9), seen=3) == 9


@pytest.mark.parametrize(
    "machine",
    [
        machine_at(4, (2, 0), (4, 0)),
        machine_at(4, (2, 0), (3, 0)),
        machine_at(4, (3, 0), (4, 0)),
        machine_at(3, (2, 0), (3, 1)),
        machine_at(3, (2, 0), (3, 0), (3, 2)),
        machine_at(9, (9, 0), compacted=7),
    ],
    ids=["gap", "no last", "no first", "no position 0", "position gap", "compacted"],
)
def test_a_revision_without_its_changes_is_a_violation(
    machine: StateMachine,
) -> None:
    with pytest.raises(Violation, match="node 1: its revision"):
        check_revisions(1, machine, seen=0)


def test_changes_written_ahead_of_their_revision_before_a_crash_are_no_violation() -> None:
    # Default seed 297: a compaction in the same run of entries had removed the ones in between.
    assert check_revisions(1, machine_at(3, (2, 0), (3, 0), (5, 0)), seen=0) == 3


def test_a_revision_that_goes_back_is_a_violation() -> None:
    with pytest.raises(Violation, match="went back from 5 to 2"):
        check_revisions(1, machine_at(2, (2, 0)), seen=5)


def test_a_command_that_uses_a_revision_without_a_change_fails_the_run() -> None:
    dispatch = CommandRunner._dispatch

    def wasteful(
        self: CommandRunner, command: kv_pb2.Command, result: kv_pb2.Result, *rest: object
    ) -> Steps[None]:
        yield from dispatch(self, command, result, *rest)  # type: ignore[arg-type]
        if not self.writer.position:
            self._meta.revision += 1

    plan = replace(SCENARIOS["anything"](1), schedule=(), seconds=4.0)
    assert not run(plan).problems
    with mock.patch.object(CommandRunner, "_dispatch", wasteful):
        (problem,) = run(plan).problems
    assert "its revision" in problem

"""Changes for watches: reported as they are applied, and read from history."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from raftkv.kv.changes import Change, changes_since
from raftkv.kv.machine import Applied
from raftkv.kv.pace import Steps, run
from raftkv.kv.records import VERSION_BYTES
from raftkv.rpc.v1 import kv_pb2 as pb

from .harness import (
    EVERYTHING,
    Driver,
    Listener,
    batch,
    compact,
    delete,
    entry,
    grant,
    no_hash,
    put,
    transaction,
)


def changes_reported_by(db: Driver) -> list[Change]:
    reported: list[Change] = []
    db.machine.set_change_listener(Listener(reported.extend))
    return reported


def seen(changes: Sequence[Change]) -> list[tuple[int, bytes, bytes | None, bytes | None]]:
    return [
        (
            change.revision,
            change.key,
            None if change.record is None else change.record[VERSION_BYTES:],
            None if change.old is None else change.old[VERSION_BYTES:],
        )
        for change in changes
    ]


def test_each_change_is_reported_with_the_version_before(db: Driver) -> None:
    reported = changes_reported_by(db)
    db.do(put(b"a", b"1"))
    db.do(put(b"a", b"2"))
    db.do(delete(b"a"))
    assert seen(reported) == [
        (2, b"a", b"1", None),
        (3, b"a", b"2", b"1"),
        (4, b"a", None, b"2"),
    ]


def test_a_transaction_that_fails_reports_no_changes(db: Driver) -> None:
    reported = changes_reported_by(db)
    db.transact(transaction(success=[put(b"a"), put(b"b", lease=99)]))
    assert reported == []
    db.transact(transaction(success=[put(b"a"), put(b"b")]))
    assert [change.revision for change in reported] == [2, 2]


def test_the_end_of_a_lease_reports_the_deletion_of_its_keys(db: Driver) -> None:
    lease = db.grant(1_000)
    db.do(put(b"k", b"v", lease=lease))
    reported = changes_reported_by(db)
    db.pass_time(2_000)
    assert seen(reported) == [(3, b"k", None, b"v")]


def test_a_change_is_reported_even_if_it_is_compacted_in_the_same_run(db: Driver) -> None:
    reported = changes_reported_by(db)
    first = db.machine.applied_index + 1
    db.machine.apply(
        [
            entry(first, 0, batch(put(b"a", b"1"))),
            entry(first + 1, 0, batch(put(b"a", b"2"), compact(3))),
        ]
    )
    assert seen(reported) == [(2, b"a", b"1", None), (3, b"a", b"2", b"1")]


def test_without_a_listener_no_changes_are_recorded(db: Driver) -> None:
    reported = changes_reported_by(db)
    db.machine.set_change_listener(None)
    db.do(put(b"a"))
    db.machine.set_change_listener(Listener(reported.extend))
    db.do(put(b"b"))
    assert [change.key for change in reported] == [b"b"]


def test_no_change_is_lost_to_a_listener_that_is_set_within_a_run() -> None:
    """Whatever the run did before: it is reported, or a jump refers to history."""
    commands = [put(b"a"), delete(b"a"), transaction_of(b"b", b"c"), put(b"a")]
    for paused_after in range(STEPS_OF_A_RUN):
        db = Driver()
        db.restart(step_units=1)
        steps = begun_run(db, commands, paused_after)
        reported: list[Change] = []
        listener = Listener(reported.extend)
        db.machine.set_change_listener(listener)
        run(steps)
        assert (listener.jumps, reported) == (1, [])
        db.do(put(b"d"))
        assert (listener.jumps, [change.key for change in reported]) == (1, [b"d"])


def test_a_listener_that_is_replaced_within_a_run_gets_all_of_its_changes() -> None:
    commands = [put(b"a"), delete(b"a"), transaction_of(b"b", b"c"), put(b"a")]
    for paused_after in range(STEPS_OF_A_RUN):
        db = Driver()
        db.restart(step_units=1)
        changes_reported_by(db)
        steps = begun_run(db, commands, paused_after)
        db.machine.set_change_listener(None)
        reported = changes_reported_by(db)
        run(steps)
        assert [change.key for change in reported] == [b"a", b"a", b"b", b"c", b"a"]


STEPS_OF_A_RUN = 4


def transaction_of(*keys: bytes) -> pb.Command:
    return pb.Command(transaction=transaction(success=[put(key) for key in keys]))


def begun_run(db: Driver, commands: Sequence[pb.Command], steps: int) -> Steps[list[Applied]]:
    """A run of these commands, of which one step and `steps` more were done."""
    first = db.machine.applied_index + 1
    entries = [entry(first + number, 0, batch(each)) for number, each in enumerate(commands)]
    begun = db.machine.apply_in_steps(entries, no_hash)
    for _ in range(1 + steps):
        next(begun)
    assert db.machine.revision == 1
    return begun


KEYS = st.sampled_from([b"a", b"b", b"c"])
COMMANDS = st.one_of(
    st.builds(put, KEYS, st.binary(max_size=2)),
    st.builds(delete, KEYS),
    st.just(delete(EVERYTHING, EVERYTHING)),
    st.builds(
        lambda keys: pb.Command(transaction=transaction(success=[put(key) for key in keys])),
        st.lists(KEYS, unique=True),
    ),
    st.just(grant(1_000)),
)


@given(st.lists(COMMANDS, max_size=30), st.data())
def test_history_gives_the_changes_that_were_reported(
    commands: list[pb.Command], data: st.DataObject
) -> None:
    db = Driver()
    reported = changes_reported_by(db)
    for command in commands:
        db.do(command)
    start = data.draw(st.integers(1, db.machine.revision + 1))
    expected = [change for change in reported if change.revision >= start]
    assert list(changes_since(db.machine.view, start)) == expected

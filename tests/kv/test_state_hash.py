"""The running hash of the state: equal where entries did the same, different from then on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.kv.meta import MEMBERSHIP_KEY
from raftkv.kv.state_hash import MARKS_MAX, STATE_HASH_KEY, StateMark
from raftkv.kv.store import Family
from raftkv.raft.entry import Entry, EntryKind, encode_version
from raftkv.rpc.v1 import kv_pb2 as pb
from raftkv.storage.memory_state import MemoryStateStore, turned
from raftkv.versions import COMPARED

from .harness import batch, compact, delete, entry, grant, put, renew, transaction

MARK_ENTRIES = 4
RAISE = Entry(1, 1, EntryKind.VERSION, encode_version(COMPARED))


def machine_of(store: MemoryStateStore) -> StateMachine:
    return StateMachine(store, Limits(), mark_entries=MARK_ENTRIES)


def log_of(commands: Sequence[pb.Command]) -> list[Entry]:
    return [RAISE, *(entry(2 + at, 0, batch(each)) for at, each in enumerate(commands))]


def marks_of(entries: Sequence[Entry], runs: Sequence[int] = ()) -> Sequence[StateMark]:
    """The marks after these entries, in runs that end at these positions."""
    machine, done = machine_of(MemoryStateStore()), 0
    for end in (*runs, len(entries)):
        machine.apply(entries[done:end])
        done = end
    return machine.state_marks


def in_transaction(*commands: pb.Command) -> pb.Command:
    return pb.Command(transaction=transaction([], list(commands)))


PUTS = [put(b"k%d" % (number % 3), b"v%d" % number) for number in range(12)]


def test_marks_do_not_depend_on_the_runs_and_restarts() -> None:
    entries, store = log_of(PUTS), MemoryStateStore()
    for each in entries:
        machine = machine_of(store)
        machine.apply([each])
    expected = machine.state_marks
    assert [mark.index for mark in expected] == [4, 8, 12]
    assert expected == marks_of(entries) == marks_of(entries, (5, 7))
    assert machine_of(store).state_marks == expected


def test_a_machine_keeps_its_last_marks() -> None:
    entries = log_of([put(b"k", b"v")] * (MARK_ENTRIES * (MARKS_MAX + 2)))
    indexes = [mark.index for mark in marks_of(entries)]
    assert indexes == [MARK_ENTRIES * (3 + number) for number in range(MARKS_MAX)]


def test_a_cluster_below_the_version_has_no_hash() -> None:
    store = MemoryStateStore()
    machine = machine_of(store)
    machine.apply([Entry(1, 1, EntryKind.VERSION, encode_version(COMPARED - 1))])
    machine.apply([entry(2 + at, 0, batch(each)) for at, each in enumerate(PUTS)])
    assert not machine.state_marks
    assert store.get(Family.META, STATE_HASH_KEY) is None


@pytest.mark.parametrize(
    ("family", "command"),
    [
        (Family.CURRENT, put(b"key", b"new")),
        (Family.CURRENT, delete(b"key")),
        (Family.CURRENT, in_transaction(delete(b"key"))),
        (Family.LEASES, renew(7)),
        (Family.CHANGES, compact(3)),
    ],
    ids=["a put", "a deletion", "a transaction", "a renewal", "a compaction"],
)
def test_a_flipped_row_shows_once_an_entry_uses_it(family: Family, command: pb.Command) -> None:
    def marks(flip: Callable[[MemoryStateStore], None]) -> Sequence[StateMark]:
        store = MemoryStateStore()
        first = [grant(1_000, lease=7), put(b"key", b"old"), put(b"key", b"newer", lease=7)]
        machine_of(store).apply(log_of(first))
        flip(store)
        machine = machine_of(store)  # leases are read at the start
        after = [command, *[put(b"other")] * 6]
        machine.apply([entry(5 + at, 1, batch(each)) for at, each in enumerate(after)])
        machine.apply([entry(12, 900_000)])  # upkeep: expired leases, old versions
        return machine.state_marks

    def flip(store: MemoryStateStore) -> None:
        key, value = next(iter(store.scan(family, b"", None)))
        bit = 8 * 40 if family is Family.CURRENT else 12
        store.write({family: {key: turned(value, bit)}})

    right, wrong = marks(lambda _: None), marks(flip)
    assert right[0] == wrong[0], "what nothing has used yet does not show"
    assert [mark.index for mark in right] == [mark.index for mark in wrong]
    assert right[-1] != wrong[-1]


def test_a_failed_transaction_leaves_no_trace_in_the_hash() -> None:
    failing = in_transaction(put(b"a", b"1"), put(b"b", b"2", lease=99))
    nothing = in_transaction(put(b"b", b"2", lease=99))
    assert marks_of(log_of([failing] * 4)) == marks_of(log_of([nothing] * 4))


def test_a_result_is_not_in_the_hash() -> None:
    """Two protobuf libraries may encode it differently."""
    read = put(b"k", b"v", prev_kv=True)
    assert marks_of(log_of([read] * 4)) == marks_of(log_of([put(b"k", b"v")] * 4))


def test_the_members_are_in_the_hash() -> None:
    assert MEMBERSHIP_KEY != STATE_HASH_KEY
    one, other = (
        [RAISE, Entry(1, 2, EntryKind.MEMBERSHIP, payload), *log_of(PUTS)[2:]]
        for payload in (b"", b"\x0a\x01\x01")
    )
    assert marks_of(one)[-1] != marks_of(other)[-1]

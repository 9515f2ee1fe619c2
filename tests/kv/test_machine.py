"""Entries in, one atomic write out: indexes, kinds of entries, membership, restart."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest

from raftkv.errors import InvariantViolation
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.kv.meta import META_0_KEY, META_KEY
from raftkv.kv.store import NOTHING_REMOVED, Changes, Family, Ranges
from raftkv.raft.entry import Address, Entry, EntryKind, Membership, encode_version
from raftkv.rpc.v1 import kv_pb2 as pb
from raftkv.rpc.v1 import log_pb2
from raftkv.storage.memory_state import MemoryStateStore

from .harness import ORIGIN, Driver, batch, delete, entry, put, rows


class CountingStore(MemoryStateStore):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[Mapping[Family, Mapping[bytes, bytes | None]]] = []

    def write(self, changes: Changes, removed: Ranges = NOTHING_REMOVED) -> None:
        self.written.append({family: dict(each) for family, each in changes.items()})
        super().write(changes, removed)


def test_an_empty_store_gives_an_empty_machine() -> None:
    machine = StateMachine(MemoryStateStore(), Limits())
    assert (machine.applied_index, machine.applied_term, machine.revision) == (0, 0, 1)
    assert (machine.compacted_revision, machine.time_ms) == (0, 0)
    assert machine.membership == Membership()
    assert machine.apply([]) == []


def test_each_submission_is_answered_with_its_origin_and_number() -> None:
    machine = StateMachine(MemoryStateStore(), Limits())
    applied = machine.apply(
        [
            entry(1, 0, batch(put(b"a")), batch(put(b"b"), put(b"c"))),
            Entry(1, 2, EntryKind.NOOP),
            entry(3, 0, batch()),
        ]
    )
    assert [(each.index, each.origin, each.number) for each in applied] == [
        (1, ORIGIN, 0),
        (1, ORIGIN, 1),
        (3, ORIGIN, 0),
    ]
    revisions = [
        [result.revision for result in pb.BatchResult.FromString(each.result).results]
        for each in applied
    ]
    assert revisions == [[2], [3, 4], []]


def test_a_run_is_one_write_that_holds_the_applied_index() -> None:
    store = CountingStore()
    machine = StateMachine(store, Limits())
    machine.apply([entry(1, 0, batch(put(b"a"))), entry(2, 0, batch(put(b"b")), term=3)])
    machine.apply([])
    assert len(store.written) == 1
    assert store.written[0][Family.META].keys() == {META_KEY}
    again = StateMachine(store, Limits())
    assert (again.applied_index, again.applied_term, again.revision) == (2, 3, 3)


def test_a_later_run_writes_nothing_of_an_earlier_one() -> None:
    store = CountingStore()
    machine = StateMachine(store, Limits())
    machine.apply([entry(1, 0, batch(put(b"a")))])
    machine.apply([Entry(1, 2, EntryKind.NOOP)])
    assert {family for family, each in store.written[1].items() if each} == {Family.META}


@pytest.mark.parametrize("index", [0, 1, 3])
def test_a_gap_or_a_repetition_stops_the_node(index: int) -> None:
    machine = StateMachine(MemoryStateStore(), Limits())
    machine.apply([Entry(1, 1, EntryKind.NOOP)])
    with pytest.raises(InvariantViolation):
        machine.apply([Entry(1, index, EntryKind.NOOP)])


def test_a_term_that_goes_back_stops_the_node() -> None:
    machine = StateMachine(MemoryStateStore(), Limits())
    machine.apply([Entry(2, 1, EntryKind.NOOP)])
    with pytest.raises(InvariantViolation):
        machine.apply([Entry(1, 2, EntryKind.NOOP)])


def test_a_membership_is_kept_over_a_restart(db: Driver) -> None:
    wire = log_pb2.Membership(
        voters=[1, 2],
        voters_outgoing=[1, 3],
        learners=[4],
        addresses=[
            log_pb2.MemberAddress(node_id=1, peer_address="p:1", client_address="c:1", disk_id=7)
        ],
        removed=[9],
    )
    db.machine.apply([Entry(1, 1, EntryKind.MEMBERSHIP, wire.SerializeToString())])
    expected = Membership(
        frozenset({1, 2}),
        frozenset({1, 3}),
        frozenset({4}),
        {1: Address("p:1", "c:1")},
        frozenset({9}),
        {1: 7},
    )
    assert db.machine.membership == expected
    db.restart()
    assert db.machine.membership == expected
    assert (db.machine.applied_index, db.machine.revision) == (1, 1)


def test_a_restart_continues_from_the_state_of_the_store(db: Driver) -> None:
    db.pass_time(500)
    db.do(put(b"k"))
    db.restart()
    assert (db.machine.applied_index, db.machine.revision, db.machine.time_ms) == (2, 2, 500)
    assert db.do(put(b"k")).revision == 3
    assert db.get(b"k").version == 2


def test_the_hash_of_the_log_is_kept_with_the_index_that_it_is_of(db: Driver) -> None:
    db.machine.apply([Entry(1, 1, EntryKind.NOOP)], 0xABC)
    db.machine.apply([])
    assert db.machine.applied_hash == 0xABC
    db.restart()
    assert (db.machine.applied_index, db.machine.applied_hash) == (1, 0xABC)


def test_the_cluster_version_is_raised_by_an_entry_and_never_lowered(db: Driver) -> None:
    assert db.machine.cluster_version == 0
    for index, (version, then) in enumerate([(1, 1), (3, 3), (2, 3)], 1):
        db.machine.apply([Entry(1, index, EntryKind.VERSION, encode_version(version))])
        assert db.machine.cluster_version == then
        db.restart()
        assert db.machine.cluster_version == then


def test_a_state_of_0_1_0_is_read_and_converted_when_the_version_is_raised() -> None:
    old = struct.pack("<QQqqqq", 7, 2, 30, 4, 500, 6)
    store = MemoryStateStore()
    store.write({Family.META: {META_0_KEY: old}})
    machine = StateMachine(store, Limits())
    assert (machine.applied_index, machine.applied_term, machine.revision) == (7, 2, 30)
    assert (machine.time_ms, machine.applied_hash, machine.cluster_version) == (500, 0, 0)
    machine.apply([Entry(2, 8, EntryKind.NOOP), Entry(2, 9, EntryKind.VERSION, encode_version(1))])
    assert [key for key, _ in rows(store, Family.META)] == [META_KEY]
    assert StateMachine(store, Limits()).applied_index == 9


def test_a_put_moves_the_version_it_replaces_to_history_and_leaves_no_tombstone(
    db: Driver,
) -> None:
    for command in (put(b"k", b"1"), put(b"k", b"2"), delete(b"k")):
        db.do(command)
    assert len(rows(db.store, Family.CURRENT)) == 0
    assert len(rows(db.store, Family.HISTORY)) == 2
    assert len(rows(db.store, Family.CHANGES)) == 3

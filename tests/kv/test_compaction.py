"""Compaction: effective at once, removed row by row, counted by entry (etcd facts 9)."""

from __future__ import annotations

import pytest

from raftkv.kv.limits import COMPACTION_CHANGES_PER_ENTRY
from raftkv.kv.store import Family
from raftkv.rpc.v1 import kv_pb2 as pb

from .harness import EVERYTHING, Driver, batch, compact, delete, put, rows


def test_reads_below_the_compacted_revision_fail_and_those_at_it_work(db: Driver) -> None:
    for value in (b"1", b"2", b"3"):
        db.do(put(b"k", value))
    assert db.do(compact(3)).revision == 4
    failure = db.range(b"k", revision=2).failure
    assert (failure.reason, failure.facts["compacted_revision"]) == ("REVISION_COMPACTED", "3")
    assert (db.value(b"k", 3), db.value(b"k", 4), db.value(b"k")) == (b"2", b"3", b"3")
    assert db.machine.compacted_revision == 3


@pytest.mark.parametrize(
    ("revision", "reason"),
    [(3, "REVISION_COMPACTED"), (2, "REVISION_COMPACTED"), (5, "REVISION_IN_FUTURE")],
)
def test_compaction_goes_forward_and_not_past_the_present(
    db: Driver, revision: int, reason: str
) -> None:
    for _ in range(3):
        db.do(put(b"k"))
    db.do(compact(3))
    assert db.do(compact(revision)).failure.reason == reason


@pytest.mark.parametrize("revision", [0, -1])
def test_nothing_can_be_compacted_before_the_first_revision(db: Driver, revision: int) -> None:
    assert db.do(compact(revision)).failure.reason == "REVISION_COMPACTED"


def test_compaction_at_the_present_revision_keeps_only_living_versions(db: Driver) -> None:
    for value in (b"1", b"2"):
        db.do(put(b"k", value))
    db.do(put(b"gone"))
    db.do(delete(b"gone"))
    assert db.do(compact(5)).revision == 5
    assert rows(db.store, Family.HISTORY) == []
    assert [key for key, _ in rows(db.store, Family.CURRENT)] == [b"k"]
    assert db.value(b"k") == b"2"


def test_compaction_keeps_the_changes_from_the_compacted_revision_on(db: Driver) -> None:
    for _ in range(4):
        db.do(put(b"k"))
    db.do(compact(3))
    assert len(rows(db.store, Family.CHANGES)) == 3
    db.do(compact(5))
    assert len(rows(db.store, Family.CHANGES)) == 1, "those that the first one left go too"


def test_removal_takes_many_entries_and_reads_are_correct_meanwhile(db: Driver) -> None:
    total = 3 * COMPACTION_CHANGES_PER_ENTRY
    db.send(batch(*(put(b"%05d" % (each % 100), b"%d" % each) for each in range(total))))
    middle = db.machine.revision - 50
    expected = db.range(EVERYTHING, EVERYTHING, revision=middle)
    sizes = [len(rows(db.store, Family.CHANGES))]
    db.do(compact(middle))
    for _ in range(4):
        sizes.append(len(rows(db.store, Family.CHANGES)))
        assert db.range(EVERYTHING, EVERYTHING, revision=middle) == expected
        db.restart()
        db.idle(1)
    assert sizes == [
        total,
        total - COMPACTION_CHANGES_PER_ENTRY,
        total - 2 * COMPACTION_CHANGES_PER_ENTRY,
        51,
        51,
    ]
    assert len(rows(db.store, Family.HISTORY)) == 50


def test_a_second_compaction_may_start_while_the_first_is_under_way(db: Driver) -> None:
    total = 2 * COMPACTION_CHANGES_PER_ENTRY
    db.send(batch(*(put(b"k", b"%d" % each) for each in range(total))))
    db.do(compact(total - 5))
    db.do(compact(total))
    db.idle(3)
    assert len(rows(db.store, Family.CHANGES)) == 2
    assert len(rows(db.store, Family.HISTORY)) == 1
    assert db.value(b"k", total) == b"%d" % (total - 2)


def test_a_large_revision_at_the_edge_of_two_compactions_is_removed_whole(db: Driver) -> None:
    # The cursor of the first stands in the middle of a revision whose first changes it kept.
    half = COMPACTION_CHANGES_PER_ENTRY
    db.send(batch(*(put(b"%05d" % each) for each in range(2 * half))))
    db.do(delete(EVERYTHING, EVERYTHING))
    edge = db.machine.revision
    db.do(compact(edge))
    db.idle(1)
    db.do(put(b"k"))
    db.do(compact(edge + 1))
    db.idle(6)
    assert len(rows(db.store, Family.CHANGES)) == 1
    assert rows(db.store, Family.HISTORY) == []


def test_a_compaction_changes_no_revision_and_returns_only_that(db: Driver) -> None:
    db.do(put(b"k"))
    assert db.do(compact(2)) == pb.Result(revision=2)

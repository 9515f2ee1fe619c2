"""Puts, deletions and swaps: revision accounting and what they return (etcd facts 4, 6, 7)."""

from __future__ import annotations

import pytest

from raftkv.kv.limits import RESULT_BYTES_MAX
from raftkv.rpc.v1 import kv_pb2 as pb

from .harness import EVERYTHING, Driver, batch, delete, put


def test_an_empty_store_is_at_revision_1_and_its_first_put_makes_2(db: Driver) -> None:
    assert db.machine.revision == 1
    assert db.do(put(b"k", b"v")).revision == 2


def test_a_put_of_the_same_value_makes_a_revision(db: Driver) -> None:
    db.do(put(b"k", b"v"))
    assert db.do(put(b"k", b"v")).revision == 3


def test_each_command_of_a_batch_has_its_own_revision(db: Driver) -> None:
    results = db.send(batch(put(b"a"), put(b"b"), delete(b"c"), delete(b"a"))).results
    assert [result.revision for result in results] == [2, 3, 3, 4]


def test_a_generation_keeps_its_create_revision_and_counts_versions(db: Driver) -> None:
    db.do(put(b"k", b"1"))
    db.do(put(b"x"))
    db.do(put(b"k", b"2"))
    found = db.get(b"k")
    assert (found.create_revision, found.mod_revision, found.version) == (2, 4, 2)


def test_a_put_after_a_delete_starts_a_new_generation(db: Driver) -> None:
    db.do(put(b"k", b"1"))
    db.do(put(b"k", b"2"))
    db.do(delete(b"k"))
    db.do(put(b"k", b"3"))
    found = db.get(b"k")
    assert (found.create_revision, found.mod_revision, found.version) == (5, 5, 1)


def test_an_empty_value_is_not_absence(db: Driver) -> None:
    db.do(put(b"k"))
    assert db.value(b"k") == b""
    assert db.get(b"other") is None


def test_prev_kv_is_returned_only_if_asked_for_and_there_was_one(db: Driver) -> None:
    assert not db.do(put(b"k", b"1", prev_kv=True)).HasField("put")
    assert not db.do(put(b"k", b"2")).HasField("put")
    previous = db.do(put(b"k", b"3", prev_kv=True)).put.prev_kv
    assert (previous.key, previous.value, previous.mod_revision) == (b"k", b"2", 3)
    assert previous.version == 2


def test_ignore_value_keeps_the_value_and_ignore_lease_the_lease(db: Driver) -> None:
    lease = db.grant(5_000)
    db.do(put(b"k", b"old", lease=lease))
    assert db.do(put(b"k", ignore_value=True, ignore_lease=True)).revision == 3
    found = db.get(b"k")
    assert (found.value, found.lease, found.version) == (b"old", lease, 2)
    db.do(put(b"k", ignore_value=True))
    assert (db.get(b"k").value, db.get(b"k").lease) == (b"old", 0)


@pytest.mark.parametrize("option", ["ignore_value", "ignore_lease"])
def test_ignoring_on_a_missing_key_is_refused_and_changes_nothing(db: Driver, option: str) -> None:
    result = db.do(put(b"k", **{option: True}))
    assert result.failure.reason == "KEY_NOT_FOUND"
    assert result.revision == db.machine.revision == 1


def test_a_put_under_an_unknown_lease_is_refused_and_changes_nothing(db: Driver) -> None:
    assert db.do(put(b"k", b"v", lease=9)).failure.reason == "LEASE_NOT_FOUND"
    assert db.get(b"k") is None
    assert db.machine.revision == 1


def test_deleting_nothing_makes_no_revision(db: Driver) -> None:
    result = db.do(delete(b"k"))
    assert (result.revision, result.delete_range.deleted) == (1, 0)
    assert result.HasField("delete_range")


def test_a_range_is_deleted_in_one_revision(db: Driver) -> None:
    for key in (b"a", b"b", b"c"):
        db.do(put(key, key))
    result = db.do(delete(b"a", b"c", prev_kv=True))
    assert (result.revision, result.delete_range.deleted) == (5, 2)
    assert [kv.value for kv in result.delete_range.prev_kvs] == [b"a", b"b"]
    assert db.value(b"c") == b"c"


def test_a_deletion_from_a_key_on_reaches_the_end_of_the_store(db: Driver) -> None:
    for key in (b"a", b"b", b"\xff\xff"):
        db.do(put(key))
    assert db.do(delete(b"b", EVERYTHING)).delete_range.deleted == 2
    assert db.range(EVERYTHING, EVERYTHING).range.count == 1


def test_a_deletion_whose_end_is_not_after_its_key_deletes_nothing(db: Driver) -> None:
    db.do(put(b"b"))
    assert db.do(delete(b"b", b"a")).delete_range.deleted == 0
    assert db.do(delete(b"b", b"b")).delete_range.deleted == 0


def test_a_swap_happens_only_if_the_value_is_as_expected(db: Driver) -> None:
    db.do(put(b"k", b"1"))
    lost = db.swap(key=b"k", value=b"0", new_value=b"2")
    assert (lost.revision, lost.compare_and_swap.swapped) == (2, False)
    assert lost.compare_and_swap.current.value == b"1"
    won = db.swap(key=b"k", value=b"1", new_value=b"2")
    assert (won.revision, won.compare_and_swap.swapped) == (3, True)
    assert won.compare_and_swap.current.value == b"2"
    assert won.compare_and_swap.current.mod_revision == 3


def test_a_swap_that_expects_absence_creates_once(db: Driver) -> None:
    assert db.swap(key=b"k", absent=True, new_value=b"1").compare_and_swap.swapped
    second = db.swap(key=b"k", absent=True, new_value=b"2").compare_and_swap
    assert (second.swapped, second.current.value) == (False, b"1")


def test_a_swap_by_revision_sees_every_change(db: Driver) -> None:
    db.do(put(b"k", b"1"))
    db.do(put(b"k", b"1"))
    assert not db.swap(key=b"k", mod_revision=2, new_value=b"2").compare_and_swap.swapped
    assert db.swap(key=b"k", mod_revision=3, new_value=b"2").compare_and_swap.swapped


def test_a_swap_on_a_missing_key_has_no_current(db: Driver) -> None:
    result = db.swap(key=b"k", value=b"", new_value=b"1")
    assert not result.compare_and_swap.swapped
    assert not result.compare_and_swap.HasField("current")


def test_a_swap_checks_its_lease_only_if_it_swaps(db: Driver) -> None:
    db.do(put(b"k", b"1"))
    assert not db.swap(key=b"k", value=b"0", new_value=b"2", lease=9).HasField("failure")
    refused = db.swap(key=b"k", value=b"1", new_value=b"2", lease=9)
    assert refused.failure.reason == "LEASE_NOT_FOUND"
    assert db.value(b"k") == b"1"


@pytest.mark.parametrize(
    "command", [pb.Command(), pb.Command(compare_and_swap=pb.CompareAndSwap(key=b"k"))]
)
def test_a_command_that_is_not_set_fails_and_never_raises(db: Driver, command: pb.Command) -> None:
    assert db.do(command).failure.reason == "INVALID_REQUEST"


def test_the_results_of_a_batch_are_bounded_and_a_command_beyond_changes_nothing(
    db: Driver,
) -> None:
    value = bytes(RESULT_BYTES_MAX // 3)
    for key in (b"a", b"b", b"c"):
        db.do(put(key, value))
    results = db.send(
        batch(*(put(key, b"", prev_kv=True) for key in (b"a", b"b", b"c")), put(b"d"))
    ).results
    assert [result.failure.reason for result in results] == ["", "", "TOO_LARGE", ""]
    assert (db.value(b"b"), db.value(b"c"), db.value(b"d")) == (b"", value, b"")
    too_much = db.do(delete(b"c", b"d", prev_kv=True))
    assert too_much.delete_range.deleted == 1

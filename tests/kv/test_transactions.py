"""Transactions at apply: compares, branches, order, atomicity (etcd facts 8)."""

from __future__ import annotations

import pytest

from raftkv.kv.limits import RESULT_BYTES_MAX
from raftkv.rpc.v1 import kv_pb2 as pb

from .harness import EVERYTHING, Driver, batch, compact, delete, put, transaction

EQUAL = pb.COMPARE_RESULT_EQUAL
GREATER = pb.COMPARE_RESULT_GREATER
LESS = pb.COMPARE_RESULT_LESS
NOT_EQUAL = pb.COMPARE_RESULT_NOT_EQUAL


def holds(db: Driver, **compare: object) -> bool:
    result = db.transact(transaction(compare=[pb.Compare(**compare)]))
    assert not result.HasField("failure"), result.failure
    return result.transaction.succeeded


def test_a_transaction_without_compares_succeeds(db: Driver) -> None:
    result = db.transact(transaction(success=[put(b"k")], failure=[put(b"x")]))
    assert result.transaction.succeeded
    assert (db.value(b"k"), db.get(b"x")) == (b"", None)


def test_all_changes_of_a_transaction_share_one_revision(db: Driver) -> None:
    result = db.transact(transaction(success=[put(b"a"), put(b"b"), delete(b"c")]))
    assert result.revision == db.machine.revision == 2
    assert db.get(b"a").mod_revision == db.get(b"b").mod_revision == 2


def test_a_branch_that_changes_nothing_makes_no_revision(db: Driver) -> None:
    result = db.transact(transaction(success=[delete(b"k"), pb.Range(key=b"k")]))
    assert (result.revision, db.machine.revision) == (1, 1)
    assert [each.revision for each in result.transaction.responses] == [1, 1]


@pytest.mark.parametrize(
    ("result", "value", "expected"),
    [
        (EQUAL, 3, True),
        (EQUAL, 2, False),
        (GREATER, 2, True),
        (GREATER, 3, False),
        (LESS, 4, True),
        (LESS, 3, False),
        (NOT_EQUAL, 2, True),
        (NOT_EQUAL, 3, False),
    ],
)
def test_a_compare_reads_key_result_value(
    db: Driver, result: int, value: int, expected: bool
) -> None:
    db.do(put(b"k", b"3"))
    db.do(put(b"k", b"3"))
    assert holds(db, key=b"k", result=result, mod_revision=value) is expected
    assert holds(db, key=b"k", result=result, value=b"%d" % value) is expected


def test_each_target_is_compared(db: Driver) -> None:
    lease = db.grant(5_000)
    db.do(put(b"k"))
    db.do(put(b"k", lease=lease))
    assert holds(db, key=b"k", version=2)
    assert holds(db, key=b"k", create_revision=2)
    assert holds(db, key=b"k", mod_revision=3)
    assert holds(db, key=b"k", lease=lease)


def test_a_missing_key_is_zero_everywhere(db: Driver) -> None:
    for target in ("version", "create_revision", "mod_revision", "lease"):
        assert holds(db, key=b"k", **{target: 0})
        assert holds(db, key=b"k", result=LESS, **{target: 1})


@pytest.mark.parametrize("result", [EQUAL, GREATER, LESS, NOT_EQUAL])
def test_a_missing_key_fails_every_compare_of_its_value(db: Driver, result: int) -> None:
    assert not holds(db, key=b"k", result=result, value=b"")
    assert not holds(db, key=b"k", range_end=b"z", result=result, value=b"")


def test_a_compare_of_a_range_must_hold_for_every_key(db: Driver) -> None:
    for key in (b"a", b"b", b"c"):
        db.do(put(key, b"same"))
    db.do(put(b"d", b"other"))
    assert holds(db, key=b"a", range_end=b"d", value=b"same")
    assert not holds(db, key=b"a", range_end=EVERYTHING, value=b"same")
    assert holds(db, key=b"x", range_end=b"z", version=0)
    assert holds(db, key=b"c", range_end=b"a", version=0), "an empty range is a missing key"


def test_compares_are_anded(db: Driver) -> None:
    db.do(put(b"k"))
    both = [pb.Compare(key=b"k", version=1), pb.Compare(key=b"k", mod_revision=9)]
    assert not db.transact(transaction(compare=both)).transaction.succeeded
    assert db.transact(transaction(compare=both[:1])).transaction.succeeded


def test_an_unknown_compare_fails_and_never_raises(db: Driver) -> None:
    for compare in (pb.Compare(key=b"k"), pb.Compare(key=b"k", result=9, version=1)):
        assert db.transact(transaction([compare])).failure.reason == "INVALID_REQUEST"


def test_responses_stand_in_the_order_of_the_branch_and_reads_see_earlier_writes(
    db: Driver,
) -> None:
    db.do(put(b"k", b"old"))
    read = pb.Range(key=b"k")
    result = db.transact(transaction(success=[read, put(b"k", b"new", prev_kv=True), read]))
    before, changed, after = result.transaction.responses
    assert (before.range.kvs[0].value, before.revision) == (b"old", 2)
    assert (changed.put.prev_kv.value, changed.revision) == (b"old", 3)
    assert (after.range.kvs[0].value, after.revision) == (b"new", 3)


def test_a_range_over_the_overlay_sees_puts_and_deletes_of_the_same_entry(db: Driver) -> None:
    for key in (b"a", b"c", b"e"):
        db.do(put(key, b"stored"))
    everything = pb.Range(key=EVERYTHING, range_end=EVERYTHING)
    results = db.send(
        batch(
            put(b"b"),
            delete(b"c"),
            pb.Command(transaction=transaction(success=[put(b"d"), delete(b"e"), everything])),
        )
    ).results
    found = results[-1].transaction.responses[-1].range
    assert ([kv.key for kv in found.kvs], found.count) == ([b"a", b"b", b"d"], 3)


def test_a_range_in_a_transaction_can_read_the_state_before_it(db: Driver) -> None:
    db.do(put(b"k", b"old"))
    everything = pb.Range(key=b"a", range_end=EVERYTHING, revision=2)
    point = pb.Range(key=b"k", revision=2)
    result = db.transact(transaction(success=[put(b"k", b"new"), put(b"x"), point, everything]))
    *_, by_point, by_range = result.transaction.responses
    assert [kv.value for kv in by_point.range.kvs] == [b"old"]
    assert [(kv.key, kv.value) for kv in by_range.range.kvs] == [(b"k", b"old")]


@pytest.mark.parametrize(
    ("revision", "reason"), [(4, "REVISION_IN_FUTURE"), (2, "REVISION_COMPACTED")]
)
def test_an_unreadable_revision_rejects_the_whole_transaction(
    db: Driver, revision: int, reason: str
) -> None:
    db.do(put(b"k", b"1"))
    db.do(put(b"k", b"2"))
    db.do(compact(3))
    read = pb.Range(key=b"k", revision=revision)
    result = db.transact(transaction(success=[put(b"k", b"3"), read]))
    assert (result.failure.reason, result.revision) == (reason, 3)
    assert not result.HasField("transaction")
    assert (db.value(b"k"), db.machine.revision) == (b"2", 3)


@pytest.mark.parametrize(
    "bad", [put(b"b", lease=9), put(b"b", ignore_value=True), put(b"b", ignore_lease=True)]
)
def test_a_put_that_fails_undoes_the_whole_transaction(db: Driver, bad: pb.Command) -> None:
    lease = db.grant(5_000)
    db.do(put(b"z", b"old"))
    result = db.transact(transaction(success=[put(b"a", lease=lease), delete(b"z"), bad]))
    assert result.HasField("failure")
    assert (db.get(b"a"), db.value(b"z"), db.machine.revision) == (None, b"old", 2)
    assert list(db.machine.lease_keys(lease)) == []


def test_only_the_branch_taken_is_checked(db: Driver) -> None:
    result = db.transact(transaction(success=[put(b"a")], failure=[put(b"b", lease=9)]))
    assert not result.HasField("failure")


def test_nested_compares_see_the_state_before_the_outer_transaction(db: Driver) -> None:
    absent = pb.Compare(key=b"k", version=0)
    inner = transaction([absent], success=[put(b"inner", b"absent")], failure=[put(b"inner")])
    result = db.transact(transaction([absent], success=[put(b"k"), inner]))
    assert result.transaction.responses[1].transaction.succeeded
    assert db.value(b"inner") == b"absent"
    assert db.get(b"inner").mod_revision == db.get(b"k").mod_revision == 2


def test_a_failing_nested_operation_rejects_everything(db: Driver) -> None:
    inner = transaction(success=[put(b"b", lease=9)])
    result = db.transact(transaction(success=[put(b"a"), inner]))
    assert result.failure.reason == "LEASE_NOT_FOUND"
    assert db.get(b"a") is None


def test_a_transaction_whose_reply_would_be_too_large_changes_nothing(db: Driver) -> None:
    for key in (b"a", b"b"):
        db.do(put(key, bytes(RESULT_BYTES_MAX * 2 // 3)))
    read = pb.Range(key=b"a", range_end=b"c")
    result = db.transact(transaction(success=[put(b"x"), read]))
    assert result.failure.reason == "TOO_LARGE"
    assert db.get(b"x") is None


def test_an_operation_that_is_not_set_fails_and_never_raises(db: Driver) -> None:
    request = transaction(success=[put(b"a")])
    request.success.add()
    assert db.transact(request).failure.reason == "INVALID_REQUEST"
    assert db.get(b"a") is None


@pytest.mark.parametrize(
    "branch",
    [
        [put(b"k", b"1"), put(b"k", b"2")],
        [put(b"k", b"1"), delete(b"k"), put(b"k", b"2")],
        [delete(b"k"), put(b"k", b"2")],
    ],
)
def test_even_an_unchecked_transaction_that_writes_a_key_twice_leaves_history_right(
    db: Driver, branch: list[pb.Command]
) -> None:
    db.do(put(b"k", b"old"))
    db.transact(transaction(success=branch))
    assert (db.value(b"k"), db.value(b"k", 2), db.value(b"k", 1)) == (b"2", b"old", None)

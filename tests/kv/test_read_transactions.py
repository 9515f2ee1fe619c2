"""A read-only transaction sees one state, however long it takes, and returns what `txn` would."""

from __future__ import annotations

import pytest

from raftkv.errors import InvalidRequest, TooLarge
from raftkv.kv.limits import Limits
from raftkv.kv.pace import STEP_UNITS, run
from raftkv.kv.validation import check_read_transaction
from raftkv.rpc.v1 import kv_pb2 as pb

from .harness import EVERYTHING, Driver, batch, compact, delete, put, transaction

ALL = pb.Range(key=EVERYTHING, range_end=EVERYTHING)


def exists(key: bytes) -> pb.Compare:
    return pb.Compare(key=key, version=0, result=pb.COMPARE_RESULT_GREATER)


def test_a_read_transaction_returns_the_same_as_through_the_log(db: Driver) -> None:
    db.send(batch(put(b"a", b"1"), put(b"b", b"2")))
    nested = transaction([exists(b"x")], success=[ALL], failure=[pb.Range(key=b"b")])
    request = transaction(
        [exists(b"a")],
        success=[pb.Range(key=b"a"), pb.Range(key=b"missing"), nested, ALL],
    )
    read = run(db.machine.read_transaction(request))
    assert read == db.transact(request)


def test_the_branch_not_taken_is_not_read(db: Driver) -> None:
    request = transaction([exists(b"x")], success=[ALL])
    result = run(db.machine.read_transaction(request))
    assert not result.transaction.succeeded
    assert not result.transaction.responses
    assert result.HasField("transaction")


def test_all_ranges_of_a_read_transaction_see_the_state_of_its_first_step(db: Driver) -> None:
    total = 2 * STEP_UNITS
    db.send(batch(*(put(b"%05d" % n) for n in range(total))))
    request = transaction(success=[ALL, pb.Range(key=b"00000"), ALL])
    steps = db.machine.read_transaction(request)
    next(steps)
    db.send(batch(put(b"00000", b"new"), put(b"later"), delete(b"00001")))
    result = run(steps)
    first, point, second = result.transaction.responses
    assert (first.range.count, second.range.count) == (total, total)
    assert first.range == second.range
    assert point.range.kvs[0].value == b""
    assert {result.revision, first.revision, point.revision} == {total + 1}


@pytest.mark.parametrize(
    ("revision", "reason"), [(99, "REVISION_IN_FUTURE"), (2, "REVISION_COMPACTED")]
)
def test_an_unreadable_revision_fails_the_whole_read_transaction(
    db: Driver, revision: int, reason: str
) -> None:
    db.send(batch(put(b"a"), put(b"a"), put(b"a"), compact(4)))
    old = pb.Range(key=b"a", revision=revision)
    result = run(db.machine.read_transaction(transaction(success=[ALL, old])))
    assert result.failure.reason == reason


def test_the_results_of_a_read_transaction_share_the_limit_of_one_reply() -> None:
    db = Driver(Limits(reply_bytes_max=3_000))
    db.send(batch(put(b"a", b"x" * 2_000)))
    one, two = transaction(success=[ALL]), transaction(success=[ALL, ALL])
    assert run(db.machine.read_transaction(one)).HasField("transaction")
    assert run(db.machine.read_transaction(two)).failure.reason == TooLarge.reason


@pytest.mark.parametrize("change", [put(b"a"), delete(b"a")], ids=["put", "delete"])
@pytest.mark.parametrize("depth", [0, 3])
def test_a_read_transaction_that_would_change_something_is_refused(
    change: pb.Command, depth: int
) -> None:
    request = transaction(failure=[ALL, change])
    for _ in range(depth):
        request = transaction(success=[request])
    with pytest.raises(InvalidRequest, match="read-only"):
        check_read_transaction(request, Limits())

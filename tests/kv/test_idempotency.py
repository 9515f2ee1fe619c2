"""Idempotency keys: within its lifetime a repeated key returns the first result."""

from __future__ import annotations

import pytest

from raftkv.kv import budget
from raftkv.kv.limits import (
    IDEMPOTENCY_REMOVALS_PER_ENTRY,
    RESULT_BYTES_MAX,
)
from raftkv.kv.store import Family
from raftkv.rpc.v1 import kv_pb2 as pb
from raftkv.versions import BOUNDED

from .harness import Driver, batch, delete, put, rows

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def named(key: bytes, command: pb.Command, ttl_ms: int = 0) -> pb.Command:
    copy = pb.Command()
    copy.CopyFrom(command)
    copy.idempotency_key = key
    copy.idempotency_ttl_ms = ttl_ms
    return copy


def test_a_repeated_command_returns_the_first_result_and_is_not_run(db: Driver) -> None:
    command = named(b"i", put(b"k", b"v"))
    first = db.do(command)
    db.do(put(b"other"))
    assert db.do(command) == first
    assert db.get(b"k").version == 1


def test_the_key_is_known_within_the_same_batch_and_after_a_restart(db: Driver) -> None:
    command = named(b"i", put(b"k", b"v"))
    first, second = db.send(batch(command, command)).results
    db.restart()
    assert first == second == db.do(command)


def test_a_failure_is_kept_as_the_first_result_too(db: Driver) -> None:
    command = named(b"i", put(b"k", ignore_value=True))
    first = db.do(command)
    db.do(put(b"k"))
    assert db.do(command) == first
    assert first.failure.reason == "KEY_NOT_FOUND"


def test_a_failure_that_is_safe_to_retry_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client sends such a command again, and its caller later: it must run then."""
    monkeypatch.setattr(budget, "DELETED_KEYS_MAX", 2)
    db = Driver(version=BOUNDED)
    for key in (b"a1", b"a2", b"b1"):
        db.do(put(key))
    command = named(b"i", delete(b"b", b"c"))
    _, refused = db.send(batch(delete(b"a", b"b"), command)).results
    assert refused.failure.reason == "OVERLOADED"
    assert db.do(command).delete_range.deleted == 1
    assert db.do(command).delete_range.deleted == 1, "the first result"
    assert db.get(b"b1") is None


def test_the_key_under_another_command_is_refused(db: Driver) -> None:
    db.do(named(b"i", put(b"k", b"v")))
    refused = db.do(named(b"i", put(b"k", b"w")))
    assert refused.failure.reason == "IDEMPOTENCY_KEY_REUSED"
    assert db.value(b"k") == b"v"


def test_another_ttl_is_not_another_command_and_does_not_lengthen_the_first(db: Driver) -> None:
    db.do(named(b"i", put(b"k"), ttl_ms=1_000))
    db.time_ms = 999
    db.do(named(b"i", put(b"k"), ttl_ms=5_000))
    assert db.get(b"k").version == 1
    db.time_ms = 1_000
    db.do(named(b"i", put(b"k")))
    assert db.get(b"k").version == 2


@pytest.mark.parametrize(
    ("ttl_ms", "lives_ms"),
    [(0, HOUR_MS), (500, 500), (7 * DAY_MS, 7 * DAY_MS), (7 * DAY_MS + 1, 7 * DAY_MS)],
)
def test_the_key_is_forgotten_at_its_deadline(db: Driver, ttl_ms: int, lives_ms: int) -> None:
    command = named(b"i", put(b"k"), ttl_ms)
    db.do(command)
    db.time_ms = lives_ms - 1
    db.do(command)
    assert db.get(b"k").version == 1
    db.time_ms = lives_ms
    db.do(command)
    assert db.get(b"k").version == 2
    assert len(rows(db.store, Family.IDEMPOTENCY)) == 1
    assert len(rows(db.store, Family.IDEMPOTENCY_DEADLINES)) == 1


def test_expired_keys_are_removed_some_with_each_entry(db: Driver) -> None:
    total = IDEMPOTENCY_REMOVALS_PER_ENTRY + 10
    db.send(batch(*(named(b"%d" % each, put(b"k"), 1_000 + each) for each in range(total))))
    db.pass_time(10_000)
    assert len(rows(db.store, Family.IDEMPOTENCY)) == 10
    db.restart()
    db.idle(1)
    assert rows(db.store, Family.IDEMPOTENCY) == []
    assert rows(db.store, Family.IDEMPOTENCY_DEADLINES) == []


def test_an_expired_key_that_is_not_removed_yet_can_be_used_again_for_anything(
    db: Driver,
) -> None:
    total = IDEMPOTENCY_REMOVALS_PER_ENTRY + 10
    last = b"%d" % (total - 1)
    db.send(batch(*(named(b"%d" % each, put(b"k"), 1_000 + each) for each in range(total))))
    db.time_ms = 10_000
    assert not db.do(named(last, put(b"x"), 5_000)).HasField("failure")
    db.idle(2)
    assert [key for key, _ in rows(db.store, Family.IDEMPOTENCY)] == [last]
    assert len(rows(db.store, Family.IDEMPOTENCY_DEADLINES)) == 1
    db.do(named(last, put(b"x")))
    assert db.get(b"x").version == 1


def test_the_deadline_of_an_idempotency_key_needs_no_entry(db: Driver) -> None:
    db.do(named(b"i", put(b"k"), 1_000))
    assert db.machine.next_deadline_ms() is None


def test_repeated_large_results_do_not_make_a_batch_larger_than_it_may_be(db: Driver) -> None:
    db.do(put(b"k", bytes(RESULT_BYTES_MAX * 2 // 3)))
    command = named(b"i", put(b"k", prev_kv=True))
    first = db.do(command)
    results = db.send(batch(command, command)).results
    assert results[0] == first
    assert results[1].failure.reason == "TOO_LARGE"
    assert db.get(b"k").version == 2


def test_the_counted_size_of_a_repeated_result_does_not_depend_on_its_encoder(
    db: Driver,
) -> None:
    # The rows of two nodes may hold one result in two encodings, if their libraries differ.
    db.do(put(b"k", bytes(RESULT_BYTES_MAX // 4)))
    command = named(b"i", put(b"k", prev_kv=True))
    first = db.do(command)
    ((key, row),) = rows(db.store, Family.IDEMPOTENCY)
    same_again = pb.Result(put=pb.PutResult()).SerializeToString() * (RESULT_BYTES_MAX // 8)
    db.store.write({Family.IDEMPOTENCY: {key: row + same_again}})
    assert list(db.send(batch(*[command] * 3)).results) == [first] * 3

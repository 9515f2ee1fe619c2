"""What the store promises by cluster time: it counts from the stamp of the entry itself, not from
the time that was applied before it.
"""

from __future__ import annotations

from raftkv.rpc.v1 import kv_pb2 as pb
from tests.kv.harness import Driver, batch, grant, put, renew

BEFORE_MS, NOW_MS, TTL_MS = 1_000, 60_000, 2_000
"""The last entry before, the entry that the promise counts from, and the time that is promised."""


def moved_on() -> Driver:
    """A store whose last entry is of `BEFORE_MS`; the next one is of `NOW_MS`."""
    db = Driver()
    db.time_ms = BEFORE_MS
    db.do(put(b"before"))
    db.time_ms = NOW_MS
    return db


def test_a_lease_counts_from_the_stamp_of_its_own_entry() -> None:
    db = moved_on()
    lease = db.do(grant(TTL_MS)).lease.lease
    db.time_ms = NOW_MS + TTL_MS - 1
    db.do(renew(lease))
    db.time_ms += TTL_MS - 1
    db.do(put(b"k", lease=lease))
    assert db.get(b"k") is not None
    db.time_ms += 1
    db.do(put(b"other"))
    assert db.get(b"k") is None


def test_a_retry_is_judged_by_the_stamp_of_its_own_entry() -> None:
    """The session has ended by the stamp of the entry in which the retry stands, and lived still in
    the entry before.
    """
    db = moved_on()
    session = db.do(grant(TTL_MS)).lease.lease
    first = batch(put(b"k", b"v"), session=session, sequence=1)
    db.send(first)
    db.time_ms = NOW_MS + TTL_MS - 1
    assert not db.send(first).HasField("failure")
    db.time_ms += 1
    assert db.send(first).failure.reason == "SESSION_EXPIRED"
    assert db.get(b"k").version == 1


def test_an_idempotency_key_counts_from_the_stamp_of_its_own_entry() -> None:
    db = moved_on()
    command = put(b"k", b"v")
    command.idempotency_key, command.idempotency_ttl_ms = b"name", TTL_MS
    db.do(command)
    db.time_ms = NOW_MS + TTL_MS - 1
    db.do(command)  # a retry, which does not lengthen its life
    assert db.get(b"k").version == 1
    db.time_ms += 1
    db.do(command)
    assert db.get(b"k").version == 2


def test_a_batch_of_commands_has_one_time() -> None:
    """A lease that is granted and used in the entry that ends another one: both by one stamp."""
    db = moved_on()
    old = db.do(grant(TTL_MS)).lease.lease
    db.time_ms = NOW_MS + TTL_MS
    results = db.send(batch(pb.Command(put=pb.Put(key=b"k", lease=old)), grant(TTL_MS))).results
    assert results[0].failure.reason == "LEASE_NOT_FOUND"
    new = results[1].lease.lease
    db.time_ms += TTL_MS - 1
    assert not db.do(renew(new)).HasField("failure")

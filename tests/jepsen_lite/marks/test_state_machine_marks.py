"""Marks of commands, leases, locks and fences, observed at a state machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from jepsen_lite.sim.coverage.commands import observe_commands
from jepsen_lite.sim.coverage.coordination import observe_leases, observe_locks
from jepsen_lite.sim.coverage.reads import observe_scans
from raftkv.rpc.v1 import kv_pb2 as pb
from raftkv.versions import BOUNDED
from tests.kv.harness import Driver, batch, compact, delete, grant, put, renew, revoke, transaction

from .observed import observed

OBSERVERS = (observe_commands, observe_leases, observe_locks, observe_scans)


def acquire(lease: int, **options: object) -> pb.Command:
    return pb.Command(acquire=pb.Acquire(name=b"n", lease=lease, **options))


def fenced(token: int) -> pb.Command:
    command = put(b"k")
    command.fences.add(name=b"n", token=token)
    return command


def keyed(command: pb.Command) -> pb.Command:
    command.idempotency_key = b"key"
    command.idempotency_ttl_ms = 1_000
    return command


def a_first_run(db: Driver) -> None:
    db.send(batch(put(b"k"), session=db.grant(5_000), sequence=1))


def a_retry(db: Driver) -> None:
    once = batch(put(b"k"), session=db.grant(5_000), sequence=1)
    db.send(once)
    db.send(once)


def a_batch_after_its_session(db: Driver) -> None:
    session = db.grant(5_000)
    db.do(revoke(session))
    db.send(batch(put(b"k"), session=session, sequence=1))


def a_retry_after_its_acknowledgement(db: Driver) -> None:
    session = db.grant(5_000)
    db.send(batch(put(b"k"), session=session, sequence=1))
    db.send(batch(put(b"k"), session=session, sequence=2, acknowledged=1))
    db.send(batch(put(b"k"), session=session, sequence=1))


def an_idempotency_key(db: Driver) -> None:
    db.do(keyed(put(b"k")))
    db.do(keyed(put(b"k")))
    db.do(keyed(put(b"another command")))
    db.pass_time(2_000)
    db.idle(1)


def branches(db: Driver) -> None:
    absent = pb.Compare(key=b"k", version=0)
    db.transact(transaction([absent], [put(b"k")]))
    db.transact(transaction([absent], [put(b"k")]))
    db.swap(key=b"k", absent=True, new_value=b"v")
    db.swap(key=b"new", absent=True, new_value=b"v")


def a_lease_with_a_key(db: Driver) -> None:
    """Once it is revoked, once it expires."""
    revoked, expiring = db.grant(5_000), db.grant(5_000)
    db.do(put(b"k", lease=revoked))
    db.do(put(b"l", lease=expiring))
    db.pass_time(4_500)
    db.do(renew(expiring))
    db.do(revoke(revoked))
    db.pass_time(9_600)
    db.run_upkeep()


def a_queue(db: Driver) -> None:
    """Its head leaves: first with another behind it, then as the last one."""
    leases = [db.grant(60_000) for _ in range(3)]
    tokens = [db.do(acquire(lease)).acquire.token for lease in leases[:2]]
    db.do(acquire(leases[2], only_if_free=True))
    db.do(fenced(tokens[0]))
    db.do(fenced(tokens[1]))
    db.do(revoke(leases[0]))
    db.do(fenced(tokens[0]))
    db.do(revoke(leases[1]))
    db.do(fenced(tokens[1]))
    last = db.do(acquire(leases[2])).acquire
    db.transact(transaction([], [delete(last.key)]))
    db.do(acquire(leases[2], only_if_free=True))


def ranges(db: Driver) -> None:
    for key in (b"a", b"b", b"c"):
        db.do(put(key))
    db.do(delete(b"a", b"d", limit=1))
    db.do(delete(b"a", b"d"))


def a_compaction(db: Driver) -> None:
    for _ in range(3):
        db.do(put(b"k"))
    db.do(compact(3))
    db.do(compact(2))
    db.do(compact(99))
    db.do(put(b"absent", ignore_value=True))
    db.do(grant(1_000, lease=5))
    db.do(grant(1_000, lease=5))
    db.run_upkeep()


CASES: dict[Callable[[Driver], None], set[str]] = {
    a_first_run: {"command: put, first", "command: lease_grant, first"},
    a_retry: {"command: put, retry", "a retry is answered from memory"},
    a_batch_after_its_session: {"command: put, after expiry"},
    a_retry_after_its_acknowledgement: {"a retry arrives after its result was acknowledged"},
    an_idempotency_key: {
        "an idempotency key is used",
        "an idempotency key is repeated",
        "an idempotency key expires",
        "command refused: IDEMPOTENCY_KEY_REUSED",
    },
    branches: {
        "a transaction runs its success branch",
        "a transaction runs its failure branch",
        "a comparison swaps",
        "a comparison does not swap",
    },
    a_lease_with_a_key: {
        "a key is attached to a lease",
        "a lease is renewed in the last quarter of its time",
        "a lease is revoked",
        "a revoked lease takes its keys along",
        "a lease expires",
        "an expired lease takes its keys along",
        "an entry without commands carries a time stamp",
    },
    a_queue: {
        "an acquire finds the lock free",
        "an acquire joins the queue",
        "an acquire does not join: the lock is held",
        "a fence holds",
        "a fence is refused: its token waits or its lease is over",
        "a fence is refused: another token holds the lock",
        "a fence is refused: nobody holds the lock",
        "a queue's cached head is wrong and rebuilt",
        "a queue's cached length is forgotten",
        "a queue's cached head is gone, and the queue is empty",
        "command refused: FENCED_OFF",
    },
    ranges: {"a range of keys is deleted", "a range deletion reaches its limit"},
    a_compaction: {
        "a compaction removes versions",
        "command refused: REVISION_COMPACTED",
        "command refused: REVISION_IN_FUTURE",
        "command refused: KEY_NOT_FOUND",
        "command refused: LEASE_EXISTS",
    },
}


@pytest.fixture(scope="module")
def reached() -> dict[Callable[[Driver], None], Counter[str]]:
    found = {}
    for case in CASES:
        with observed(*OBSERVERS) as counts:
            case(Driver(version=BOUNDED))
        found[case] = counts
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_commands_reach_their_marks(case, reached) -> None:
    assert CASES[case] - reached[case].keys() == set()


def test_a_first_run_reaches_no_mark_of_the_others(reached) -> None:
    others = set().union(*(marks for case, marks in CASES.items() if case is not a_first_run))
    assert others & reached[a_first_run].keys() == set()

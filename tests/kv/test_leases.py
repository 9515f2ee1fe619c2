"""Leases on cluster time: expiry at the same entry everywhere (etcd facts 11, in ms)."""

from __future__ import annotations

import pytest

from raftkv.kv.leases import chosen_lease
from raftkv.kv.limits import LEASE_TTL_MS_MAX, LEASE_TTL_MS_MIN
from raftkv.kv.store import Family
from raftkv.rpc.v1 import kv_pb2 as pb

from .harness import (
    EVERYTHING,
    Driver,
    batch,
    delete,
    entry,
    grant,
    put,
    renew,
    revoke,
    rows,
    transaction,
)


def test_the_store_chooses_positive_ids_that_differ_and_skips_those_in_use(db: Driver) -> None:
    second = db.grant(5_000, lease=chosen_lease(2))
    ids = [db.grant(5_000) for _ in range(100)]
    assert len({second, *ids}) == 101
    assert all(0 < lease < 1 << 63 for lease in ids)


def test_a_given_id_may_be_any_but_only_once(db: Driver) -> None:
    assert db.grant(5_000, lease=-7) == -7
    assert db.do(grant(5_000, lease=-7)).failure.reason == "LEASE_EXISTS"


@pytest.mark.parametrize("ttl_ms", [-5, 0, 1, LEASE_TTL_MS_MIN])
def test_a_short_ttl_is_raised_to_the_minimum(db: Driver, ttl_ms: int) -> None:
    assert db.do(grant(ttl_ms)).lease.ttl_ms == LEASE_TTL_MS_MIN


def test_a_ttl_over_the_limit_is_refused_at_apply_too(db: Driver) -> None:
    assert db.do(grant(LEASE_TTL_MS_MAX + 1)).failure.reason == "INVALID_REQUEST"
    assert list(db.machine.leases()) == []


def test_a_grant_makes_no_revision(db: Driver) -> None:
    assert db.do(grant(5_000)).revision == db.machine.revision == 1


def test_a_lease_expires_with_the_first_entry_stamped_at_or_past_its_deadline(db: Driver) -> None:
    lease = db.grant(5_000)
    db.do(put(b"k", lease=lease))
    db.pass_time(4_999)
    assert db.machine.lease_time_to_live(lease) == (1, 5_000)
    db.pass_time(5_000)
    assert db.machine.lease_time_to_live(lease) is None
    assert db.get(b"k") is None
    assert db.machine.revision == 3


def test_expiry_comes_before_the_commands_of_the_same_entry(db: Driver) -> None:
    lease = db.grant(5_000)
    db.do(put(b"k", b"1", lease=lease))
    db.time_ms = 5_000
    result = db.do(put(b"k", b"2", ignore_lease=True))
    assert result.failure.reason == "KEY_NOT_FOUND"
    assert db.do(renew(lease)).failure.reason == "LEASE_NOT_FOUND"


def test_leases_expire_in_the_order_of_deadline_and_id_each_in_its_own_revision(
    db: Driver,
) -> None:
    for lease, ttl_ms in ((9, 2_000), (3, 3_000), (5, 2_000)):
        db.grant(ttl_ms, lease=lease)
        db.send(batch(put(b"b%d" % lease, lease=lease), put(b"a%d" % lease, lease=lease)))
    before = db.machine.revision
    db.pass_time(10_000)
    changes = [
        (int.from_bytes(row[:8]) - before, change[1:])
        for row, change in rows(db.store, Family.CHANGES)
        if int.from_bytes(row[:8]) > before
    ]
    assert changes == [(1, b"a5"), (1, b"b5"), (2, b"a9"), (2, b"b9"), (3, b"a3"), (3, b"b3")]


def test_a_lease_without_keys_expires_without_a_revision(db: Driver) -> None:
    db.grant(5_000)
    db.pass_time(5_000)
    assert (db.machine.revision, list(db.machine.leases())) == (1, [])


def test_a_renewal_starts_the_whole_ttl_anew(db: Driver) -> None:
    lease = db.grant(5_000)
    db.time_ms = 3_000
    assert db.do(renew(lease)) == pb.Result(
        revision=1, lease=pb.LeaseResult(lease=lease, ttl_ms=5_000)
    )
    db.pass_time(7_999)
    assert db.machine.lease_time_to_live(lease) == (1, 5_000)
    db.pass_time(8_000)
    assert list(db.machine.leases()) == []


@pytest.mark.parametrize("command", [renew(9), revoke(9), renew(0), revoke(0)])
def test_an_unknown_lease_is_not_found(db: Driver, command: pb.Command) -> None:
    failure = db.do(command).failure
    assert failure.reason == "LEASE_NOT_FOUND"
    renewal = command.HasField("lease_renew")
    assert failure.message.endswith("grant a new one" if renewal else "or has expired")


def test_a_revocation_deletes_the_keys_in_one_revision(db: Driver) -> None:
    lease = db.grant(5_000)
    db.send(batch(put(b"b", lease=lease), put(b"a", lease=lease), put(b"c")))
    assert db.do(revoke(lease)).revision == 5
    assert [kv.key for kv in db.range(EVERYTHING, EVERYTHING).range.kvs] == [b"c"]
    assert list(db.machine.leases()) == []
    assert rows(db.store, Family.LEASES) == rows(db.store, Family.LEASE_KEYS) == []


def test_a_revocation_without_keys_makes_no_revision(db: Driver) -> None:
    assert db.do(revoke(db.grant(5_000))).revision == 1


def test_a_key_moves_with_its_last_put(db: Driver) -> None:
    first, second = db.grant(5_000), db.grant(9_000)
    db.do(put(b"k", lease=first))
    db.do(put(b"k", lease=second))
    assert (list(db.machine.lease_keys(first)), list(db.machine.lease_keys(second))) == ([], [b"k"])
    db.pass_time(5_000)
    assert db.get(b"k").lease == second
    db.do(put(b"k"))
    assert list(db.machine.lease_keys(second)) == []
    db.pass_time(9_000)
    assert db.get(b"k").lease == 0


def test_a_deleted_key_leaves_its_lease(db: Driver) -> None:
    lease = db.grant(5_000)
    db.do(put(b"k", lease=lease))
    db.do(delete(b"k"))
    db.do(put(b"k"))
    assert list(db.machine.lease_keys(lease)) == []
    db.pass_time(5_000)
    assert db.get(b"k") is not None


def test_a_transaction_attaches_and_detaches_too(db: Driver) -> None:
    lease = db.grant(5_000)
    db.do(put(b"a", lease=lease))
    db.transact(transaction(success=[put(b"a"), put(b"b", lease=lease)]))
    assert list(db.machine.lease_keys(lease)) == [b"b"]


def test_keys_of_one_lease_are_not_those_of_its_neighbours(db: Driver) -> None:
    for lease in (-1, 1, 255, 256, (1 << 63) - 1):
        db.grant(5_000, lease=lease)
        db.do(put(b"%d" % lease, lease=lease))
    for lease in (-1, 1, 255, 256, (1 << 63) - 1):
        assert list(db.machine.lease_keys(lease)) == [b"%d" % lease]


def test_leases_are_listed_by_id_and_the_next_deadline_is_known(db: Driver) -> None:
    assert db.machine.next_deadline_ms() is None
    ids = sorted((db.grant(9_000), db.grant(5_000), db.grant(7_000)))
    assert list(db.machine.leases()) == ids
    assert list(db.machine.leases(after=ids[0])) == ids[1:]
    assert db.machine.next_deadline_ms() == 5_000


def test_a_stamp_that_goes_back_changes_nothing(db: Driver) -> None:
    db.pass_time(10_000)
    lease = db.grant(5_000)
    db.pass_time(1_000)
    assert db.machine.time_ms == 10_000
    assert db.machine.lease_time_to_live(lease) == (5_000, 5_000)
    db.do(renew(lease))
    assert db.machine.next_deadline_ms() == 15_000


def test_a_stamp_in_the_far_future_advances_cluster_time_by_34_years_at_most(db: Driver) -> None:
    lease = db.grant(LEASE_TTL_MS_MAX)
    db.pass_time(1 << 62)
    assert db.machine.time_ms == 1 << 40
    assert db.machine.lease_time_to_live(lease) is not None


def test_a_restart_forgets_no_lease(db: Driver) -> None:
    lease, other = db.grant(5_000), db.grant(9_000)
    db.do(put(b"k", lease=lease))
    db.time_ms = 1_000
    db.do(renew(lease))
    db.restart()
    assert list(db.machine.leases()) == [lease, other]
    assert db.machine.lease_time_to_live(lease) == (5_000, 5_000)
    assert list(db.machine.lease_keys(lease)) == [b"k"]
    assert db.grant(5_000) not in (lease, other)
    db.pass_time(6_000)
    assert db.get(b"k") is None


def test_a_lease_granted_and_renewed_within_one_entry_is_one_lease(db: Driver) -> None:
    db.send(batch(grant(5_000, lease=4), put(b"k", lease=4), renew(4), renew(4)))
    assert list(db.machine.leases()) == [4]
    db.machine.apply([entry(db.machine.applied_index + 1, 5_000, batch(grant(5_000, lease=4)))])
    assert db.get(b"k") is None
    assert db.machine.lease_time_to_live(4) == (5_000, 5_000)

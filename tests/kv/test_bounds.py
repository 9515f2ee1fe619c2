"""Bounds of commands, batches, sessions and idempotency keys, from the cluster version BOUNDED
on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from raftkv.kv import (
    budget,
    commands,
    idempotency,
    leases,
    limits,
    machine,
    mvcc,
    operations,
    ranges,
    sessions,
)
from raftkv.kv.limits import MIB
from raftkv.kv.machine import StateMachine
from raftkv.kv.overlay import Overlay
from raftkv.kv.pace import run
from raftkv.kv.store import Family
from raftkv.rpc.v1 import kv_pb2 as pb
from raftkv.versions import BOUNDED, HASHED

from .harness import (
    EVERYTHING,
    Driver,
    Listener,
    batch,
    compact,
    delete,
    dump,
    entry,
    grant,
    no_hash,
    put,
    renew,
    revoke,
    rows,
    transaction,
)


@pytest.fixture
def db() -> Driver:
    return Driver(version=BOUNDED)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a test reaches."""
    monkeypatch.setattr(budget, "ROWS_MAX", 10)
    monkeypatch.setattr(budget, "DELETED_KEYS_MAX", 4)
    monkeypatch.setattr(budget, "REPLACED_BYTES_MAX", 1_000)
    monkeypatch.setattr(leases, "LEASE_KEYS_MAX", 4)
    monkeypatch.setattr(leases, "LEASES_MAX", 3)
    for module in (operations, leases):
        monkeypatch.setattr(module, "REMOVED_AT_ONCE_MIN", 3)


def fill(db: Driver, count: int, value: bytes = b"") -> None:
    db.send(batch(*(put(b"k%03d" % number, value) for number in range(count))))


def keys_of(db: Driver) -> list[bytes]:
    return [key for key, _ in rows(db.store, Family.CURRENT)]


def whole(**options: object) -> pb.Range:
    return pb.Range(key=EVERYTHING, range_end=EVERYTHING, **options)


def swap_for_nothing(key: bytes) -> pb.Command:
    swap = pb.CompareAndSwap(key=key, value=b"x" * 400)
    return pb.Command(compare_and_swap=swap)


def compare_whole() -> pb.Compare:
    return pb.Compare(key=EVERYTHING, range_end=EVERYTHING, version=0, result=1)


CONSTANTS = {
    "LEASE_TTL_MS_MIN": 1_000,
    "LEASE_TTL_MS_MAX": 9_000_000_000_000,
    "IDEMPOTENCY_TTL_MS_DEFAULT": 3_600_000,
    "IDEMPOTENCY_TTL_MS_MAX": 604_800_000,
    "TRANSACTION_DEPTH_MAX": 32,
    "RESULT_BYTES_MAX": 4_194_304,
    "SESSION_RESULTS_MAX": 16_384,
    "STAMP_JUMP_MS_MAX": 1_099_511_627_776,
    "ROWS_MAX": 100_000,
    "DELETED_KEYS_MAX": 10_000,
    "LEASE_KEYS_MAX": 10_000,
    "REPLACED_BYTES_MAX": 33_554_432,
    "EARLY_BYTES_MAX": 2_097_152,
    "ROW_BYTES": 512,
    "LEASES_MAX": 400_000,
    "SESSIONS_MAX": 100_000,
    "SESSION_RESULT_BYTES_MAX": 67_108_864,
    "SEQUENCE_MAX": 9_223_372_036_854_775_807,
    "RESULTS_MAX": 500_000,
    "RESULTS_BYTES_MAX": 536_870_912,
    "IDEMPOTENCY_KEYS_MAX": 1_000_000,
    "IDEMPOTENCY_BYTES_MAX": 536_870_912,
    "UPKEEP_ROWS_PER_ENTRY": 2_000,
    "COMPACTION_CHANGES_PER_ENTRY": 500,
    "IDEMPOTENCY_REMOVALS_PER_ENTRY": 500,
    "USERS_MAX": 10_000,
    "ROLES_MAX": 1_000,
    "TOKENS_MAX": 10_000,
    "TOKEN_TTL_MS_MAX": 3_153_600_000_000,
    "ROLES_PER_USER_MAX": 32,
    "PERMISSIONS_PER_ROLE_MAX": 256,
    "ROLE_BYTES_MAX": 65_536,
}
NO_BOUNDS = {"KIB", "MIB", "SECOND_MS", "HOUR_MS", "UNBOUNDED"}


def test_the_constants_of_apply_are_the_same_for_ever() -> None:
    """Nodes of two releases apply the same entries, and their states must be equal. So a bound can
    change only together with a new cluster version.
    """
    found = {name: value for name, value in vars(limits).items() if isinstance(value, int)}
    assert {name: found[name] for name in found.keys() - NO_BOUNDS} == CONSTANTS


# ---- rows ------------------------------------------------------------------------------


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"count_only": True},
        {"limit": 1},
        {"sort_target": pb.SORT_TARGET_VALUE, "limit": 1},
        {"min_mod_revision": 1 << 40},
    ],
)
def test_a_range_scans_a_bounded_number_of_rows(db: Driver, options: dict[str, object]) -> None:
    fill(db, 10)
    assert run(db.machine.read(whole(**options))).range.count == 10
    fill(db, 11)
    failure = run(db.machine.read(whole(**options))).failure
    assert (failure.reason, failure.facts["keys_max"]) == ("TOO_MANY_KEYS", "10")


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(("count", "value_bytes"), [(10, 0), (1, 9 * budget.BYTES_PER_ROW)])
def test_a_page_looks_at_as_many_rows_as_another_read(
    db: Driver, count: int, value_bytes: int
) -> None:
    fill(db, count, bytes(value_bytes))
    page = run(db.machine.read(whole(page=True))).range
    assert (len(page.kvs), page.more) == (count, False)


@pytest.mark.usefixtures("few")
def test_old_versions_count_where_an_old_revision_is_read(db: Driver) -> None:
    fill(db, 5)
    fill(db, 5)
    assert run(db.machine.read(whole())).range.count == 5
    assert run(db.machine.read(whole(revision=6))).range.count == 5
    db.do(put(b"k000"))
    assert run(db.machine.read(whole(revision=6))).failure.reason == "TOO_MANY_KEYS"


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    "make",
    [
        lambda: transaction([compare_whole()] * 2),
        lambda: transaction(success=[whole(count_only=True)] * 2),
        lambda: transaction([compare_whole()], [whole(count_only=True)]),
        lambda: transaction(success=[transaction([compare_whole()] * 2)]),
    ],
)
def test_a_transaction_has_one_budget_for_all_its_operations(
    db: Driver, make: Callable[[], pb.Transaction]
) -> None:
    fill(db, 4)
    request = make()
    assert not db.transact(request).HasField("failure")
    assert not run(db.machine.read_transaction(request)).HasField("failure")
    fill(db, 6)
    before = dump(db.store)
    assert db.transact(request).failure.reason == "TOO_MANY_KEYS"
    assert run(db.machine.read_transaction(request)).failure.reason == "TOO_MANY_KEYS"
    after = dump(db.store)
    assert {name: after[name] for name in after if name != "meta"} == {
        name: before[name] for name in before if name != "meta"
    }


@pytest.mark.usefixtures("few")
def test_a_command_after_large_ones_in_its_batch_is_safe_to_retry(db: Driver) -> None:
    fill(db, 6)
    look = pb.Command(transaction=transaction([compare_whole()]))
    first, second = db.send(batch(look, look)).results
    assert not first.HasField("failure")
    assert (second.failure.reason, second.failure.outcome) == ("OVERLOADED", 1)
    assert not db.do(look).HasField("failure")


@pytest.mark.usefixtures("few")
def test_a_cluster_version_before_2_has_no_bounds() -> None:
    db = Driver(version=HASHED)
    fill(db, 20)
    assert not db.transact(transaction([compare_whole()] * 2)).HasField("failure")
    assert db.do(delete(EVERYTHING, EVERYTHING)).delete_range.deleted == 20
    assert db.do(delete(EVERYTHING, EVERYTHING, limit=1)).failure.reason == "INVALID_REQUEST"


# ---- deletions -------------------------------------------------------------------------


@pytest.mark.usefixtures("few")
def test_a_deletion_of_too_many_keys_fails_and_works_in_pages(db: Driver) -> None:
    fill(db, 10)
    refused = db.do(delete(EVERYTHING, EVERYTHING)).failure
    assert (refused.reason, refused.facts["keys_max"]) == ("TOO_MANY_KEYS", "4")
    assert len(keys_of(db)) == 10

    revision = db.machine.revision
    pages = []
    while not pages or pages[-1].more:
        pages.append(db.do(delete(EVERYTHING, EVERYTHING, limit=1_000)).delete_range)
    assert [page.deleted for page in pages] == [4, 4, 2]
    assert db.machine.revision == revision + 3, "each page is one revision"
    assert keys_of(db) == []
    assert run(db.machine.read(whole(revision=revision))).range.count == 10


@pytest.mark.usefixtures("few")
def test_a_page_stops_at_its_limit_and_reports_more_only_if_keys_are_left(db: Driver) -> None:
    fill(db, 4)
    first = db.do(delete(EVERYTHING, EVERYTHING, limit=2)).delete_range
    assert (first.deleted, first.more) == (2, True)
    second = db.do(delete(EVERYTHING, EVERYTHING, limit=2)).delete_range
    assert (second.deleted, second.more) == (2, False)


@pytest.mark.usefixtures("few")
def test_values_bound_a_deletion_as_keys_do(db: Driver) -> None:
    fill(db, 3, b"x" * 400)
    assert db.do(delete(EVERYTHING, EVERYTHING)).failure.reason == "TOO_MANY_KEYS"
    page = db.do(delete(EVERYTHING, EVERYTHING, limit=3)).delete_range
    assert (page.deleted, page.more) == (2, True)


@pytest.mark.usefixtures("few")
def test_a_page_with_previous_values_ends_where_the_reply_is_full(
    db: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "RESULT_BYTES_MAX", 500)
    fill(db, 3, b"x" * 200)
    page = db.do(delete(EVERYTHING, EVERYTHING, limit=3, prev_kv=True)).delete_range
    assert (page.deleted, len(page.prev_kvs), page.more) == (2, 2, True)


@pytest.mark.usefixtures("few")
def test_a_page_with_previous_values_fills_the_reply_to_the_byte(
    db: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(db, 3, b"x" * 200)
    two = sum(budget.key_value_bytes(*row) for row in rows(db.store, Family.CURRENT)[:2])
    for bytes_max, deleted in ((two - 1, 1), (two, 2)):
        monkeypatch.setattr(machine, "RESULT_BYTES_MAX", bytes_max)
        page = db.do(delete(EVERYTHING, EVERYTHING, limit=3, prev_kv=True)).delete_range
        assert (page.deleted, len(page.prev_kvs)) == (deleted, deleted)
        fill(db, 3, b"x" * 200)


@pytest.mark.usefixtures("few")
def test_a_page_without_previous_values_is_not_bounded_by_the_reply(
    db: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "RESULT_BYTES_MAX", 500)
    fill(db, 3, b"x" * 200)
    page = db.do(delete(EVERYTHING, EVERYTHING, limit=3)).delete_range
    assert (page.deleted, page.more) == (3, False)


@pytest.mark.usefixtures("few")
def test_a_range_that_was_removed_at_once_can_be_written_again_in_the_same_run(db: Driver) -> None:
    fill(db, 4)
    index = db.machine.applied_index
    db.machine.apply(
        [
            entry(index + 1, 0, batch(delete(EVERYTHING, EVERYTHING))),
            entry(index + 2, 0, batch(put(b"k001", b"new"), put(b"k002"), delete(b"k002"))),
        ]
    )
    assert keys_of(db) == [b"k001"]
    assert db.value(b"k001") == b"new"
    restarted = StateMachine(db.store, db.limits)
    assert run(restarted.read(whole())) == run(db.machine.read(whole()))


@pytest.mark.usefixtures("few")
def test_overwritten_values_are_bounded_for_each_kind_of_write(db: Driver) -> None:
    for write in (put, delete, swap_for_nothing):
        fill(db, 3, b"x" * 400)
        many = db.send(batch(*(write(b"k%03d" % number) for number in range(3)))).results
        assert [each.failure.reason for each in many] == ["", "", "OVERLOADED"], write
    fill(db, 3, b"x" * 400)
    together = transaction(success=[put(b"k%03d" % number) for number in range(3)])
    assert db.transact(together).failure.reason == "TOO_LARGE"
    assert db.value(b"k000") == b"x" * 400


def test_a_sorted_read_holds_a_bounded_number_of_bytes(
    db: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "SORTED_BYTES_MAX", 4_000)
    fill(db, 30, b"x" * 400)
    by_revision = {"sort_target": pb.SORT_TARGET_MOD, "sort_order": pb.SORT_ORDER_DESCEND}
    last = run(db.machine.read(whole(limit=2, **by_revision))).range
    assert [each.key for each in last.kvs] == [b"k029", b"k028"]
    refused = run(db.machine.read(whole(limit=20, **by_revision))).failure
    assert refused.reason == "TOO_LARGE"


# ---- leases ----------------------------------------------------------------------------


@pytest.mark.usefixtures("few")
def test_the_number_of_keys_of_a_lease_is_bounded_for_each_kind_of_write(db: Driver) -> None:
    lease = db.grant(5_000)
    acquire = pb.Command(acquire=pb.Acquire(name=b"n", lease=lease))
    for number in range(3):
        db.do(put(b"%d" % number, lease=lease))
    assert db.transact(transaction(success=[put(b"3", lease=lease)])).transaction.succeeded
    for refused in (
        put(b"4", lease=lease),
        acquire,
        pb.Command(transaction=transaction(success=[put(b"4", lease=lease)])),
        pb.Command(compare_and_swap=pb.CompareAndSwap(key=b"4", absent=True, lease=lease)),
    ):
        assert db.do(refused).failure.reason == "TOO_MANY_KEYS"
    assert not db.do(put(b"3", b"again", lease=lease)).HasField("failure")
    db.do(delete(b"2"))
    db.do(put(b"1"))
    db.restart()
    assert not db.do(put(b"4", lease=lease)).HasField("failure")
    assert not db.do(acquire).HasField("failure")
    assert db.do(put(b"5", lease=lease)).failure.reason == "TOO_MANY_KEYS"


@pytest.mark.usefixtures("few")
def test_the_number_of_leases_is_bounded(db: Driver) -> None:
    for _ in range(3):
        db.grant(5_000)
    assert db.do(grant(5_000)).failure.reason == "OVERLOADED"


def test_a_lease_expires_at_its_deadline_and_the_next_upkeep_deletes_its_keys(db: Driver) -> None:
    lease = db.grant(5_000)
    db.do(put(b"k", lease=lease))
    token = db.do(pb.Command(acquire=pb.Acquire(name=b"n", lease=lease))).acquire.token
    db.time_ms = 5_000
    fenced = put(b"other")
    fenced.fences.add(name=b"n", token=token)
    assert db.do(fenced).failure.reason == "FENCED_OFF"
    assert db.do(renew(lease)).failure.reason == "LEASE_NOT_FOUND"
    assert db.do(revoke(lease)).failure.reason == "LEASE_NOT_FOUND"
    assert db.do(put(b"k2", lease=lease)).failure.reason == "LEASE_NOT_FOUND"
    assert db.send(batch(put(b"x"), session=lease, sequence=1)).failure.reason == "SESSION_EXPIRED"
    kept = db.do(pb.Command(lease_keep_alive=pb.LeaseKeepAlive(leases=[lease])))
    assert list(kept.lease_keep_alive.ended) == [lease]
    assert db.machine.lease_time_to_live(lease) is None
    assert list(db.machine.leases()) == []
    assert db.value(b"k") == b""
    assert db.machine.upkeep_is_due(5_000)

    assert db.run_upkeep() == 1
    assert db.get(b"k") is None
    assert rows(db.store, Family.LEASES) == rows(db.store, Family.LEASE_KEYS) == []
    assert not db.machine.upkeep_is_due(1 << 40)


def test_a_restart_between_its_deadline_and_its_removal_changes_nothing(db: Driver) -> None:
    lease = db.grant(5_000)
    db.do(put(b"k", lease=lease))
    db.time_ms = 5_000
    db.do(put(b"x"))
    db.restart()
    assert db.do(renew(lease)).failure.reason == "LEASE_NOT_FOUND"
    db.run_upkeep()
    assert db.get(b"k") is None


def test_an_id_that_is_granted_again_before_its_removal_is_a_new_lease(db: Driver) -> None:
    db.grant(5_000, lease=7)
    db.do(put(b"k", lease=7))
    db.time_ms = 5_000
    assert db.grant(5_000, lease=7) == 7
    assert db.get(b"k") is None
    assert list(db.machine.lease_keys(7)) == []
    assert db.machine.lease_time_to_live(7) == (5_000, 5_000)


@pytest.mark.usefixtures("few")
def test_a_lease_with_many_keys_expires_at_once_and_is_deleted_in_steps(
    db: Driver,
) -> None:
    """As one may be that dates from before the bound, or has large values."""
    lease = db.grant(5_000)
    for number in range(4):
        db.do(put(b"%d" % number, b"x" * 400, lease=lease))
    revision = db.machine.revision
    assert not db.do(revoke(lease)).HasField("failure")
    assert (len(keys_of(db)), db.machine.revision) == (2, revision + 1)
    assert db.do(renew(lease)).failure.reason == "LEASE_NOT_FOUND"
    db.restart()
    assert db.run_upkeep() == 1
    assert (keys_of(db), db.machine.revision) == ([], revision + 2)
    assert rows(db.store, Family.LEASES) == []


def test_upkeep_removes_a_bounded_part_with_each_entry(
    db: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "UPKEEP_ROWS_PER_ENTRY", 30)
    for _ in range(50):
        db.grant(5_000)
    db.time_ms = 5_000
    assert db.run_upkeep() == 4  # each lease counts for two rows
    assert rows(db.store, Family.LEASES) == []


# ---- compaction ------------------------------------------------------------------------


def test_only_upkeep_entries_remove_old_versions(db: Driver) -> None:
    for _ in range(10):
        db.do(put(b"k"))
    db.do(compact(db.machine.revision))
    before = rows(db.store, Family.HISTORY)
    db.do(put(b"other"))
    assert rows(db.store, Family.HISTORY) == before
    assert db.machine.upkeep_is_due(0)
    db.run_upkeep()
    assert rows(db.store, Family.HISTORY) == []
    assert [row[-1:] for _, row in rows(db.store, Family.CHANGES)] == [b"k", b"r"]


def test_a_change_that_is_compacted_in_its_own_run_is_not_in_history(db: Driver) -> None:
    """The store removes ranges before it writes what else is in the run."""
    entries = [
        entry(db.machine.applied_index + 1 + number, 0, *batches)
        for number, batches in enumerate(
            [[batch(put(b"k"))], [batch(put(b"k"))], [batch(put(b"k"))], [batch(compact(4))], []]
        )
    ]
    db.machine.apply(entries)
    assert len(rows(db.store, Family.CHANGES)) == 1
    assert rows(db.store, Family.HISTORY) == []


# ---- sessions and idempotency keys -----------------------------------------------------


def in_session(db: Driver, session: int, sequence: int, acknowledged: int = 0) -> str:
    sent = batch(put(b"k"), session=session, sequence=sequence, acknowledged=acknowledged)
    return db.send(sent).failure.reason


def test_sessions_are_bounded_at_their_first_use(
    db: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 2)
    first, second, third = (db.grant(5_000) for _ in range(3))
    assert [in_session(db, each, 1) for each in (first, second, third)] == ["", "", "OVERLOADED"]
    assert in_session(db, first, 2) == ""
    db.restart()
    assert in_session(db, third, 1) == "OVERLOADED"
    db.do(revoke(first))
    assert in_session(db, third, 1) == ""


def test_the_results_of_a_session_are_bounded_and_never_dropped_early(
    db: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "SESSION_RESULT_BYTES_MAX", 2 * MIB)
    db.do(put(b"big", b"x" * MIB))
    session = db.grant(5_000)
    read = pb.Command(transaction=transaction(success=[pb.Range(key=b"big")]))

    def send(sequence: int, acknowledged: int = 0) -> pb.BatchResult:
        return db.send(batch(read, session=session, sequence=sequence, acknowledged=acknowledged))

    first = send(1)
    assert not send(2).HasField("failure")
    assert send(3).failure.reason == "OVERLOADED"
    db.restart()
    assert send(3).failure.reason == "OVERLOADED"
    assert send(1) == first, "a retry still gets what is remembered"
    assert not send(3, acknowledged=1).HasField("failure")


def test_all_sessions_together_are_bounded(db: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "RESULTS_MAX", 2)
    first, second = db.grant(5_000), db.grant(5_000)
    assert [in_session(db, first, 1), in_session(db, second, 1)] == ["", ""]
    assert in_session(db, second, 2) == "OVERLOADED"
    assert in_session(db, second, 2, acknowledged=1) == ""


def test_idempotency_keys_are_bounded_until_they_expire(
    db: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "IDEMPOTENCY_KEYS_MAX", 2)

    def named(name: bytes) -> pb.Result:
        command = put(b"k", prev_kv=True)
        command.idempotency_key, command.idempotency_ttl_ms = name, 1_000
        return db.do(command)

    first = named(b"1")
    named(b"2")
    assert named(b"3").failure.reason == "OVERLOADED"
    db.restart()
    assert named(b"3").failure.reason == "OVERLOADED"
    assert named(b"1") == first
    db.time_ms = 1_000
    db.run_upkeep()
    assert not named(b"3").HasField("failure")
    assert not named(b"1").HasField("failure")
    assert named(b"4").failure.reason == "OVERLOADED"


def test_the_results_of_idempotency_keys_are_bounded_to_the_byte(
    db: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def named(name: bytes) -> pb.Result:
        command = put(b"k")
        command.idempotency_key, command.idempotency_ttl_ms = name, 1_000
        return db.do(command)

    monkeypatch.setattr(idempotency, "IDEMPOTENCY_BYTES_MAX", sessions.RESULT_BYTES + 1)
    named(b"1")
    assert not named(b"2").HasField("failure"), "one byte was left"
    assert named(b"3").failure.reason == "OVERLOADED"
    db.time_ms = 1_000
    db.run_upkeep()
    assert not any(db.store.get(Family.META, idempotency.COUNTED_KEY) or b"x"), "nothing is left"


# ---- steps -----------------------------------------------------------------------------


def test_a_reply_of_large_values_is_built_in_bounded_steps(db: Driver) -> None:
    fill(db, 20, b"x" * 24_000)  # six rows each
    db.restart(step_units=12)
    pauses = sum(1 for _ in db.machine.read(whole()))
    assert pauses >= 20 * 6 / 12


def test_a_read_during_a_run_sees_the_state_before_it(
    db: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.restart(step_units=8)
    lease = db.grant(5_000)
    holder = db.do(pb.Command(acquire=pb.Acquire(name=b"n", lease=lease))).acquire
    fill(db, 5, b"old")
    revision = db.machine.revision
    index = db.machine.applied_index
    sent = batch(
        delete(holder.key),
        pb.Command(acquire=pb.Acquire(name=b"n", ttl_ms=5_000)),
        renew(lease),
        delete(EVERYTHING, EVERYTHING),
        *(put(b"k%03d" % number, b"new") for number in range(5)),
    )
    paused = 0
    for _ in db.machine.apply_in_steps([entry(index + 1, 1_000, sent)], no_hash):
        paused += 1
        assert (db.machine.revision, db.machine.applied_index) == (revision, index)
        assert db.machine.time_ms == 0
        assert db.value(b"k000") == b"old"
        assert db.machine.lock_holder(b"n").token == holder.token
        assert [each.token for each in db.machine.lock_entries(b"n")] == [holder.token]
        assert db.machine.lease_time_to_live(lease) == (5_000, 5_000)
        assert len(list(db.machine.leases())) == 1
    assert paused > 3
    assert db.machine.applied_index == index + 1
    assert db.value(b"k000") == b"new"


def test_a_read_transaction_sees_one_state_while_entries_are_applied_between_its_steps(
    db: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.restart(step_units=1)
    fill(db, 3, b"1")
    reading = db.machine.read_transaction(
        transaction([compare_whole()], [whole(), pb.Range(key=b"k002")])
    )
    next(reading)
    fill(db, 4, b"2")
    result = run(reading)
    shown = [[kv.value for kv in each.range.kvs] for each in result.transaction.responses]
    assert shown == [[b"1", b"1", b"1"], [b"1"]]


def test_old_values_are_written_early_and_no_read_sees_them(
    db: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (machine, mvcc):
        monkeypatch.setattr(module, "EARLY_BYTES_MAX", 3_000)
    fill(db, 10, b"x" * 500)
    db.restart(step_units=8)
    revision, index = db.machine.revision, db.machine.applied_index
    before = [run(db.machine.read(whole(revision=each))) for each in range(2, revision + 1)]
    deletion = entry(index + 1, 0, batch(delete(EVERYTHING, EVERYTHING)))
    early = 0
    for _ in db.machine.apply_in_steps([deletion], no_hash):
        early = max(early, len(rows(db.store, Family.HISTORY)))
        assert [run(db.machine.read(whole(revision=each))) for each in range(2, revision + 1)] == (
            before
        )
        assert run(db.machine.read(whole())).range.count == 10
    assert early > 5
    assert run(db.machine.read(whole())).range.count == 0
    assert run(db.machine.read(whole(revision=revision))).range == before[-1].range


def test_a_crash_after_an_early_write_of_old_values_changes_nothing(
    db: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (machine, mvcc):
        monkeypatch.setattr(module, "EARLY_BYTES_MAX", 3_000)
    fill(db, 10, b"x" * 500)
    db.restart(step_units=8)
    revision, index = db.machine.revision, db.machine.applied_index
    before = run(db.machine.read(whole(revision=revision)))
    deletion = entry(index + 1, 0, batch(delete(EVERYTHING, EVERYTHING)))
    for _ in db.machine.apply_in_steps([deletion], no_hash):
        if rows(db.store, Family.HISTORY):
            break
    db.restart()
    assert run(db.machine.read(whole(revision=revision))) == before
    at_old = transaction(success=[whole(revision=revision - 1)])
    assert len(db.transact(at_old).transaction.responses[0].range.kvs) == 9
    db.machine.apply([entry(index + 2, 0, batch(delete(EVERYTHING, EVERYTHING)))])
    assert len(rows(db.store, Family.HISTORY)) == 10


@pytest.mark.usefixtures("few")
def test_a_large_value_counts_for_as_many_rows_as_it_takes_time(
    db: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "REPLACED_BYTES_MAX", MIB)
    fill(db, 2, b"x" * 24_000)  # six rows each
    assert run(db.machine.read(whole(count_only=True))).failure.reason == "TOO_MANY_KEYS"
    page = run(db.machine.read(whole(count_only=True, page=True))).range
    assert (page.count, page.more, page.next_key) == (1, True, b"k001")
    swap = pb.Command(compare_and_swap=pb.CompareAndSwap(key=b"k000", absent=True, new_value=b"y"))
    results = db.send(batch(*[swap] * 4)).results
    assert [each.failure.reason for each in results] == ["", "", "OVERLOADED", "OVERLOADED"]


def test_the_cost_to_join_or_leave_a_queue_does_not_grow_with_its_length() -> None:
    """Within a run, where nothing of it is in the store yet."""

    def steps_of(places: int) -> int:
        db = Driver(version=BOUNDED)
        db.restart(step_units=1)
        lease = db.grant(5_000)
        scanned = 0
        overlay = db.machine._overlay
        scan = overlay.scan

        def counting(*args: object, **options: object) -> Iterator[tuple[bytes, bytes]]:
            nonlocal scanned
            for row in scan(*args, **options):  # type: ignore[arg-type]
                scanned += 1
                yield row

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                Overlay, "scan", lambda self, *args, **options: counting(*args, **options)
            )
            join = pb.Command(acquire=pb.Acquire(name=b"n", lease=lease))
            db.send(batch(*[join] * places))
        return scanned

    assert steps_of(400) <= 4 * steps_of(100) + 4


def test_a_run_with_large_results_is_written_and_reported_in_whole_entries(
    db: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.do(put(b"big", b"x" * MIB))
    session = db.grant(5_000)
    reported: list[tuple[int, int]] = []
    db.machine.set_change_listener(
        Listener(lambda changes: reported.append((changes[-1].revision, db.machine.revision)))
    )
    read = pb.Command(transaction=transaction(success=[pb.Range(key=b"big"), put(b"k")]))
    index = db.machine.applied_index
    entries = [
        entry(index + number, 0, batch(read, session=session, sequence=number))
        for number in range(1, 6)
    ]
    seen = set()
    for _ in db.machine.apply_in_steps(entries, lambda each: each):
        seen.add(db.machine.applied_index)
        assert db.machine.applied_hash in (0, db.machine.applied_index)
    assert [revision for revision, _ in reported] == [revision for _, revision in reported]
    assert len(reported) > 1
    assert db.machine.applied_index == index + 5
    assert db.machine.applied_hash == index + 5


def test_keys_that_are_no_entries_neither_block_the_loop_nor_decide_the_holder() -> None:
    db = Driver(version=BOUNDED)
    fill(db, 1)
    # They look like members, and stand before all that ever can be.
    db.send(batch(*(put(b"n/%016x" % number) for number in range(1, 200))))
    db.restart(step_units=16)
    index = db.machine.applied_index
    join = pb.Command(acquire=pb.Acquire(name=b"n", ttl_ms=5_000))
    pauses = sum(1 for _ in db.machine.apply_in_steps([entry(index + 1, 0, batch(join))], no_hash))
    assert pauses > 5
    (member,) = db.machine.lock_entries(b"n")
    assert db.machine.lock_holder(b"n") == member


@pytest.mark.usefixtures("few")
def test_once_a_batch_has_used_up_its_budget_nothing_more_is_read_for_it(
    db: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(db, 6, b"x" * 300)
    read: list[bytes] = []
    get, get_many = db.store.get, db.store.get_many

    def one(family: Family, key: bytes) -> bytes | None:
        read.append(key)
        return get(family, key)

    def many(family: Family, keys: list[bytes]) -> list[bytes | None]:
        read.extend(keys)
        return get_many(family, keys)

    monkeypatch.setattr(commands, "READ_AHEAD_KEYS", 2)
    monkeypatch.setattr(db.store, "get", one)
    monkeypatch.setattr(db.store, "get_many", many)
    db.restart()
    read.clear()
    results = db.send(batch(*(put(b"k%03d" % number, b"") for number in range(6)))).results
    reasons = [each.failure.reason for each in results]
    assert reasons == ["", "", "", "OVERLOADED", "OVERLOADED", "OVERLOADED"]
    assert not {b"k004", b"k005"} & set(read)


def test_a_key_that_is_put_again_and_again_is_read_once(
    db: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(db, 2)
    read: list[bytes] = []
    get_many = db.store.get_many

    def many(family: Family, keys: list[bytes]) -> list[bytes | None]:
        read.extend(keys)
        return get_many(family, keys)

    monkeypatch.setattr(db.store, "get_many", many)
    db.restart()
    db.send(batch(*[put(b"k000"), put(b"k001")] * 100))
    assert sorted(read) == [b"k000", b"k001"]

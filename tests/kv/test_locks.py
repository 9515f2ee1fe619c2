"""Locks: queues, tokens and fences, decided by the state machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.kv import locks
from raftkv.kv.store import Family
from raftkv.rpc.v1 import kv_pb2 as pb
from raftkv.wire.lock_keys import entry_key, name_of

from .harness import Driver, batch, delete, dump, put, renew, revoke, transaction


def acquire(name: bytes = b"n", lease: int = 0, **options: object) -> pb.Command:
    return pb.Command(acquire=pb.Acquire(name=name, lease=lease, **options))


def fenced(command: pb.Command, name: bytes, token: int) -> pb.Command:
    command.fences.add(name=name, token=token)
    return command


def join(db: Driver, name: bytes = b"n", lease: int = 0, **options: object) -> pb.AcquireResult:
    lease = lease or db.grant(10_000)
    result = db.do(acquire(name, lease, **options))
    assert not result.HasField("failure"), result.failure
    return result.acquire


def holder_token(db: Driver, name: bytes = b"n") -> int:
    found = db.machine.lock_holder(name)
    return 0 if found is None else found.token


def test_the_first_holds_and_the_others_queue_in_the_order_of_their_tokens(db: Driver) -> None:
    first, second, third = (join(db, value=value) for value in (b"1", b"2", b"3"))
    assert (first.held, second.held, third.held) == (True, False, False)
    assert first.token < second.token < third.token
    assert not first.HasField("holder")
    assert third.holder.value == b"1"
    assert third.holder.create_revision == first.token
    tokens = [member.token for member in locks.entries(db.machine.view, b"n")]
    assert tokens == [first.token, second.token, third.token]


def test_the_token_is_the_create_revision_and_stands_in_the_key(db: Driver) -> None:
    joined = join(db)
    found = db.get(joined.key)
    assert found is not None
    assert joined.key == b"n/%016x" % joined.token
    assert found.create_revision == joined.token


def test_one_lease_may_have_many_entries_and_its_end_deletes_all_of_them(db: Driver) -> None:
    lease = db.grant(10_000)
    other = join(db)
    mine = [join(db, lease=lease) for _ in range(3)]
    db.do(delete(other.key))
    assert holder_token(db) == mine[0].token
    db.do(revoke(lease))
    assert holder_token(db) == 0


def test_a_waiter_whose_lease_expires_leaves_the_queue(db: Driver) -> None:
    holder = join(db)
    join(db, lease=db.grant(1_000))
    last = join(db)
    db.pass_time(1_500)
    assert [m.token for m in locks.entries(db.machine.view, b"n")] == [holder.token, last.token]


def test_only_if_free_takes_the_lock_or_nothing(db: Driver) -> None:
    first = join(db, only_if_free=True)
    refused = join(db, only_if_free=True)
    assert (first.held, refused.held, refused.token) == (True, False, 0)
    assert refused.holder.create_revision == first.token
    assert len(list(locks.entries(db.machine.view, b"n"))) == 1


def test_acquire_can_grant_its_lease_in_the_same_step(db: Driver) -> None:
    joined = db.do(acquire(ttl_ms=4_000)).acquire
    assert joined.ttl_ms == 4_000
    assert list(db.machine.lease_keys(joined.lease)) == [joined.key]
    leases_before = list(db.machine.leases())
    db.do(acquire(ttl_ms=4_000, only_if_free=True))
    assert list(db.machine.leases()) == leases_before, "who does not get in leaves no lease behind"


def test_acquire_under_a_lease_that_ended_fails_and_joins_nothing(db: Driver) -> None:
    assert db.do(acquire(lease=99)).failure.reason == "LEASE_NOT_FOUND"
    assert holder_token(db) == 0


def test_a_stale_release_never_frees_the_next_holders_lock(db: Driver) -> None:
    first, second = join(db), join(db)
    db.do(delete(first.key))
    again = db.do(delete(first.key))
    assert again.delete_range.deleted == 0
    assert holder_token(db) == second.token


def test_tokens_grow_with_every_holder_and_are_never_reused(db: Driver) -> None:
    tokens = []
    for _ in range(5):
        joined = join(db)
        tokens.append(joined.token)
        db.do(delete(joined.key))
        db.restart()
    assert tokens == sorted(set(tokens))


def test_a_fenced_write_runs_only_under_the_present_holders_token(db: Driver) -> None:
    first, second = join(db), join(db)
    assert not db.do(fenced(put(b"k", b"1"), b"n", first.token)).HasField("failure")
    waiting = db.do(fenced(put(b"k", b"2"), b"n", second.token))
    assert waiting.failure.reason == "FENCED_OFF"
    assert waiting.failure.facts["holder_token"] == str(first.token)
    db.do(delete(first.key))
    assert db.do(fenced(put(b"k", b"3"), b"n", first.token)).failure.reason == "FENCED_OFF"
    assert not db.do(fenced(put(b"k", b"4"), b"n", second.token)).HasField("failure")
    db.do(delete(second.key))
    nobody = db.do(fenced(put(b"k", b"5"), b"n", second.token))
    assert nobody.failure.facts["holder_token"] == "0"
    assert db.value(b"k") == b"4"


@pytest.mark.parametrize("kind", ["delete", "transaction", "swap", "renew"])
def test_every_kind_of_command_can_be_fenced(db: Driver, kind: str) -> None:
    joined = join(db)
    db.do(put(b"k", b"old"))
    command = {
        "delete": delete(b"k"),
        "transaction": pb.Command(transaction=pb.Transaction()),
        "swap": pb.Command(
            compare_and_swap=pb.CompareAndSwap(key=b"k", value=b"old", new_value=b"new")
        ),
        "renew": renew(joined.lease),
    }[kind]
    before = db.machine.revision
    assert db.do(fenced(command, b"n", 1)).failure.reason == "FENCED_OFF"
    assert db.machine.revision == before
    command.fences[0].token = joined.token
    assert not db.do(command).HasField("failure")


def test_all_fences_of_a_command_must_hold(db: Driver) -> None:
    one, two = join(db, b"one"), join(db, b"two")
    both = fenced(fenced(put(b"k"), b"one", one.token), b"two", two.token)
    assert not db.do(both).HasField("failure")
    db.do(delete(two.key))
    assert db.do(both).failure.reason == "FENCED_OFF"


def test_a_key_of_another_client_between_the_entries_is_no_entry(db: Driver) -> None:
    db.do(put(b"n/0000000000000001", b"forged"))
    assert holder_token(db) == 0
    joined = join(db)
    assert joined.held
    assert holder_token(db) == joined.token


def test_locks_with_a_common_prefix_of_names_are_independent(db: Driver) -> None:
    names = (b"a", b"a/b", b"a/0", b"a/0000000000000001", b"a/")
    joined = {name: join(db, name) for name in names}
    assert all(each.held for each in joined.values())
    for name, each in joined.items():
        assert holder_token(db, name) == each.token
        assert name_of(each.key) == name


def test_a_key_in_the_way_of_a_queue_is_reported_and_nothing_changes(db: Driver) -> None:
    lease = db.grant(10_000)
    db.do(put(b"n/%016x" % (db.machine.revision + 2)))
    refused = db.do(acquire(lease=lease))
    assert refused.failure.reason == "REFUSED"
    assert "in the way" in refused.failure.message


def test_many_leases_are_kept_alive_by_one_command(db: Driver) -> None:
    leases = [db.grant(2_000) for _ in range(5)]
    db.do(revoke(leases[2]))
    db.time_ms = 1_500
    keep = pb.Command(lease_keep_alive=pb.LeaseKeepAlive(leases=leases))
    assert list(db.do(keep).lease_keep_alive.ended) == [leases[2]]
    db.pass_time(3_400)
    assert sorted(db.machine.leases()) == sorted(set(leases) - {leases[2]})


def test_a_repeated_acquire_of_a_session_joins_once(db: Driver) -> None:
    session, lease = db.grant(60_000), db.grant(60_000)
    once = batch(acquire(lease=lease), session=session, sequence=1)
    assert db.send(once) == db.send(once)
    assert len(list(locks.entries(db.machine.view, b"n"))) == 1


def test_former_holders_of_a_lock_do_not_slow_down_its_current_one(db: Driver) -> None:
    """A seek in a store with deletion markers passes all markers before the row that it finds."""
    lease, seeks = db.grant(60_000), []
    scan = db.machine._store.scan

    def watched(family: Family, start: bytes, end: bytes | None, **options: bool) -> object:
        seeks.append(start)
        return scan(family, start, end, **options)

    for _ in range(50):
        last = join(db, lease=lease)
        db.do(delete(last.key))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(db.machine._store, "scan", watched)
        token = join(db, lease=lease).token
        assert holder_token(db) == token
        db.do(delete(entry_key(b"n", token)))
        assert join(db, lease=lease).held
    assert seeks == [], "neither a known holder nor a queue known to be empty is sought"


def test_the_head_of_a_queue_is_only_a_hint(db: Driver) -> None:
    first, second = join(db), join(db)
    db.do(delete(first.key))
    assert holder_token(db) == second.token
    db.restart()
    assert holder_token(db) == second.token
    heads = locks.QueueHeads()
    for number in range(locks.NAMES_MAX + 1):
        heads.set_holder(b"%d" % number, 7)
    assert (heads.first_token(b"0"), heads.first_token(b"1")) == (0, 7)


LEASES = (1_001, 1_002)
MEMBERS = st.integers(0, 3)
"""Which of a name's keys: those that joined last, and one whose time is yet to come."""

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.sampled_from(LEASES)),
        st.tuples(st.just("try"), st.sampled_from(LEASES)),
        st.tuples(st.just("delete"), MEMBERS),
        st.tuples(st.just("delete all"), st.just(0)),
        st.tuples(st.just("delete together"), MEMBERS),
        st.tuples(st.just("delete and fail"), MEMBERS),
        st.tuples(st.just("forge"), st.integers(0, 2)),
        st.tuples(st.just("forge together"), st.integers(0, 2)),
        st.tuples(st.just("revoke"), st.sampled_from(LEASES)),
        st.tuples(st.just("look"), st.just(0)),
    ),
    max_size=25,
)


def command_of(db: Driver, what: str, which: int) -> pb.Command | None:
    """A step as a command; it depends on nothing that is only remembered."""
    keys = [row.key for row in locks.entries(db.machine.view, b"n")]
    next_member = entry_key(b"n", db.machine.revision + which)
    member = keys[which] if which < len(keys) else next_member
    fails = pb.Command(put=pb.Put(key=b"absent", ignore_value=True))
    match what:
        case "acquire" | "try":
            return acquire(lease=which, only_if_free=what == "try")
        case "delete":
            return delete(member)
        case "delete all":
            return delete(b"n/", b"n0")
        case "delete together":
            return pb.Command(transaction=transaction(success=[delete(member)]))
        case "delete and fail":
            return pb.Command(transaction=transaction(success=[delete(member), fails]))
        case "forge":
            return put(next_member)
        case "forge together":
            return pb.Command(transaction=transaction(success=[put(next_member)]))
        case "revoke":
            return revoke(which)
    return None


@given(STEPS)
def test_the_cache_of_queue_heads_decides_nothing(steps: list[tuple[str, int]]) -> None:
    """A node with an empty cache, after a restart, must apply exactly as the others do."""
    old, young = Driver(), Driver()
    for what, which in steps:
        young.restart()
        for db in (old, young):
            for lease in LEASES:
                if lease not in db.machine.leases():
                    db.grant(60_000, lease)
        assert holder_token(old) == holder_token(young)
        command = command_of(old, what, which)
        if command is not None:
            assert old.do(command) == young.do(command)
        assert dump(old.store) == dump(young.store)

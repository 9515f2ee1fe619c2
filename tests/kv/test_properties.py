"""Random commands: the machine agrees with the model, and all nodes with each other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepsen_lite.model.bounds import Bounds
from raftkv.kv import budget, commands, leases, machine, mvcc, operations
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.kv.pace import run
from raftkv.kv.store import Family
from raftkv.raft.entry import Entry, EntryKind, encode_version
from raftkv.rpc.v1 import auth_pb2 as auth
from raftkv.rpc.v1 import kv_pb2 as pb
from raftkv.storage.memory_state import MemoryStateStore
from raftkv.versions import AUTHENTICATED, BOUNDED, COMPARED, HASHED

from .beside_model import DriverBesideModel
from .harness import EVERYTHING, Authored, Driver, batch, dump, entry, no_hash, rows
from .strategies import AUTH_BATCHES, BATCHES, COMMANDS, RANGES, TIMES

BOUNDS = Bounds(deletions_per_batch=2, keys_per_lease=3, upkeep_rows=3, idempotency_removals=1)


@pytest.fixture(autouse=True, scope="module")
def _small_steps() -> Iterator[None]:
    """Old rows go two at a time, so that most examples meet a half-done removal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "COMPACTION_CHANGES_PER_ENTRY", 2)
        patch.setattr(machine, "IDEMPOTENCY_REMOVALS_PER_ENTRY", BOUNDS.idempotency_removals)
        patch.setattr(commands, "UPKEEP_ROWS_PER_ENTRY", BOUNDS.upkeep_rows)
        patch.setattr(commands, "READ_AHEAD_KEYS", 2)
        patch.setattr(budget, "DELETED_KEYS_MAX", BOUNDS.deletions_per_batch)
        for module in (operations, leases):
            patch.setattr(module, "REMOVED_AT_ONCE_MIN", 2)
        for module in (machine, mvcc):
            patch.setattr(module, "EARLY_BYTES_MAX", 1_100)
        patch.setattr(leases, "LEASE_KEYS_MAX", BOUNDS.keys_per_lease)
        yield


ENTRIES = st.lists(st.none() | st.tuples(TIMES, st.lists(BATCHES, max_size=3)), max_size=12)
GRANTS = [pb.Command(lease_grant=pb.LeaseGrant(lease=lease, ttl_ms=2_500)) for lease in (1, 2, 3)]


@settings(max_examples=200)
@given(
    plan=ENTRIES,
    ranges=st.lists(RANGES, max_size=6),
    restart=st.booleans(),
    version=st.sampled_from([0, HASHED, BOUNDED]),
    kept_up=st.booleans(),
)
def test_every_result_and_the_whole_state_are_those_of_the_model(
    plan: list[tuple[int, list[pb.CommandBatch]] | None],
    ranges: list[pb.Range],
    restart: bool,
    version: int,
    kept_up: bool,
) -> None:
    """`kept_up`: the leader's upkeep entries leave nothing to remove."""
    db = DriverBesideModel(BOUNDS, version)
    db.send(batch(*GRANTS))
    for each in plan:
        if each is None:
            db.idle(1)
        else:
            db.time_ms += each[0]
            if kept_up:
                db.run_upkeep()
            db.apply(entry(db.machine.applied_index + 1, db.time_ms, *each[1]))
        if restart:
            db.restart()
    keys = db.model.state.keys
    for revision in range(max(keys.compacted, 1), keys.revision + 1):
        db.compare_read(pb.Range(key=EVERYTHING, range_end=EVERYTHING, revision=revision))
    for request in ranges:
        db.compare_read(request)


SETUP = (
    auth.AuthCommand(user_add=auth.UserAdd(name="root")),
    auth.AuthCommand(user_grant_role=auth.UserGrantRole(name="root", role="root")),
    auth.AuthCommand(user_add=auth.UserAdd(name="a")),
    auth.AuthCommand(user_add=auth.UserAdd(name="b")),
    auth.AuthCommand(role_add=auth.RoleAdd(name="r")),
    auth.AuthCommand(
        role_grant=auth.RoleGrant(role="r", permission=auth.Permission(access=3, range_end=b"m"))
    ),
    auth.AuthCommand(user_grant_role=auth.UserGrantRole(name="a", role="r")),
    auth.AuthCommand(user_grant_role=auth.UserGrantRole(name="b", role="r")),
    auth.AuthCommand(enable=auth.AuthEnable()),
)
"""Two users with rights on all keys before m."""
ROOT_ID, A, B = 1, 3, 4
SENT_BY_USERS = st.tuples(BATCHES, st.sampled_from([A, A, B, B, B, ROOT_ID, 0, 9]))
CHANGES_OF_RIGHTS = st.tuples(AUTH_BATCHES, st.sampled_from([ROOT_ID, ROOT_ID, ROOT_ID, A, 0]))
PLANS_OF_USERS = st.lists(
    st.tuples(
        TIMES,
        st.lists(SENT_BY_USERS | CHANGES_OF_RIGHTS, max_size=3),
        st.booleans(),
    ),
    max_size=12,
)


def set_up_users(each: auth.AuthCommand) -> Authored:
    return Authored(batch(pb.Command(auth=each)), ROOT_ID)


@settings(max_examples=100)
@given(plan=PLANS_OF_USERS, restart=st.booleans())
def test_what_users_may_do_and_who_owns_what_is_as_in_the_model(
    plan: list[tuple[int, list[tuple[pb.CommandBatch, int]], bool]], restart: bool
) -> None:
    """Each entry is of nodes that have applied all entries before it, or of some that are behind
    (`fresh` False).
    """
    db = DriverBesideModel(BOUNDS, AUTHENTICATED)
    for command in SETUP:
        assert not db.send(set_up_users(command)).results[0].HasField("failure")
    for user, grant in zip((A, B, ROOT_ID), GRANTS, strict=True):
        db.send(Authored(batch(grant), user))
    for elapsed_ms, sent, fresh in plan:
        db.time_ms += elapsed_ms
        db.run_upkeep()
        batches = [db.checked(*each) if fresh else Authored(*each) for each in sent]
        db.apply(entry(db.machine.applied_index + 1, db.time_ms, *batches))
        if restart:
            rights = db.machine.rights
            db.restart()
            assert db.machine.rights == rights


@settings(max_examples=200)
@given(
    plan=ENTRIES,
    cuts=st.lists(st.tuples(st.integers(0, 13), st.none() | st.integers(0, 9)), max_size=6),
    version=st.sampled_from([0, HASHED, BOUNDED, COMPARED]),
    raised_later=st.booleans(),
)
def test_the_same_entries_give_the_same_bytes_however_they_are_split_and_restarted(
    plan: list[tuple[int, list[pb.CommandBatch]] | None],
    cuts: list[tuple[int, int | None]],
    version: int,
    raised_later: bool,
) -> None:
    """A cut ends a run; with a number the process dies that many steps into the next one."""
    entries = [entry(1, 0, batch(*GRANTS))]
    at = len(plan) // 2 if raised_later else 0
    for place, each in enumerate(plan):
        index = len(entries) + 1
        if place == at and version:
            entries.append(Entry(1, index, EntryKind.VERSION, encode_version(version)))
            index += 1
        if each is None:
            entries.append(Entry(1, index, EntryKind.NOOP))
        else:
            entries.append(entry(index, each[0], *each[1]))

    whole_store, split_store = MemoryStateStore(), MemoryStateStore()
    whole = StateMachine(whole_store, Limits()).apply(entries)

    split, applied, done = StateMachine(split_store, Limits(), step_units=5), [], 0
    for cut, dies_after in [*sorted(cuts, key=lambda each: each[0]), (len(entries), None)]:
        cut = max(min(cut, len(entries)), done)
        applied += split.apply(entries[done:cut])
        done = cut
        if dies_after is not None:
            steps_of_next = split.apply_in_steps(entries[done:], no_hash)
            if sum(1 for _ in islice(steps_of_next, dies_after)) == dies_after:
                split = StateMachine(split_store, Limits(), step_units=5)
            else:
                break  # it was through before it could die
    else:
        assert applied == whole
    assert dump(split_store) == dump(whole_store)
    rebuilt = StateMachine(split_store, Limits(), step_units=5)
    assert list(rebuilt.leases()) == list(split.leases())
    assert rebuilt.next_deadline_ms() == split.next_deadline_ms()
    assert rebuilt.upkeep_is_due(1 << 40) == split.upkeep_is_due(1 << 40)


@settings(max_examples=150)
@given(
    steps=st.lists(st.tuples(st.integers(0, 800), COMMANDS), max_size=15),
    request=RANGES,
    limit=st.integers(0, 3),
    rows_max=st.integers(1, 40),
)
def test_pages_put_together_are_the_range(
    steps: list[tuple[int, pb.Command]], request: pb.Range, limit: int, rows_max: int
) -> None:
    db = Driver(version=BOUNDED)
    for elapsed_ms, command in steps:
        db.time_ms += elapsed_ms
        db.do(command)
    request.sort_order = request.limit = request.sort_target = 0
    whole = run(db.machine.read(request))
    page = pb.Range()
    page.CopyFrom(request)
    page.page, page.limit = True, limit
    kvs, count = [], 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "ROWS_MAX", rows_max)
        while True:
            result = run(db.machine.read(page))
            if result.failure.reason == "TOO_MANY_KEYS":
                key = page.key
                versions = [row for row in rows(db.store, Family.HISTORY) if key in row[0]]
                assert len(versions) >= rows_max, "only for a key with more versions than a page"
                return
            if whole.HasField("failure"):
                assert result.failure.reason == whole.failure.reason
                return
            kvs += result.range.kvs
            count += result.range.count
            if not result.range.more:
                break
            assert result.range.next_key > page.key
            page.key = result.range.next_key
            if not page.range_end:
                break
    assert kvs == list(whole.range.kvs)
    assert count == whole.range.count

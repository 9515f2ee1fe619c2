"""What a restore makes of a state, beside the independent model, before and after more commands."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepsen_lite.model.state import State
from jepsen_lite.sim.checks.model_state import state_difference
from raftkv.errors import FencedOff, InvalidRequest, RevisionCompacted
from raftkv.kv.machine import StateMachine
from raftkv.kv.meta import META_KEY
from raftkv.kv.restoration import NewCluster, Restoration, backup_rows
from raftkv.kv.store import Family
from raftkv.raft.entry import Address, Entry, EntryKind, Membership
from raftkv.rpc.v1 import auth_pb2 as auth
from raftkv.rpc.v1 import kv_pb2 as pb
from raftkv.storage.memory_state import MemoryStateStore
from raftkv.versions import AUTHENTICATED
from raftkv.wire.failures import error_of
from raftkv.wire.membership import encode_membership

from .beside_model import DriverBesideModel
from .harness import EVERYTHING, Authored, Driver, batch, entry, grant, put
from .strategies import BATCHES
from .test_properties import (
    BOUNDS,
    GRANTS,
    PLANS_OF_USERS,
    ROOT_ID,
    SETUP,
    A,
    B,
    _small_steps,
    set_up_users,
)

__all__ = ["_small_steps"]  # the bounds of the model hold here, too

BILLION = 1_000_000_000
OLD = Membership(voters=frozenset({7}), addresses={7: Address("a:1", "a:2")})
NEW = NewCluster(
    0xABCD,
    Membership(
        voters=frozenset({1, 2, 3}),
        addresses={id: Address(f"b{id}:1", f"b{id}:2") for id in (1, 2, 3)},
        disk_ids={1: 11, 2: 12, 3: 13},
    ),
)


def with_membership(db: Driver) -> None:
    index = db.machine.applied_index + 1
    db.apply(Entry(1, index, EntryKind.MEMBERSHIP, encode_membership(OLD)))


def restore(db: Driver) -> Restoration:
    """The driver goes on with what a restore makes of its state."""
    restoration = Restoration(NEW)
    restored = MemoryStateStore()
    for family, key, value in backup_rows(db.store):
        row = restoration.row(family, key, value)
        if row is not None:
            restored.write({family: {key: row}})
    restoration.finish()
    db.store = restored
    db.machine = StateMachine(restored, db.limits)
    return restoration


def restored_model(before: State) -> State:
    """What the documentation promises of the state after a restore, in terms of the model."""
    after = State(before.bounds, before.index, before.term, before.cluster_version)
    kept = [each for each in before.keys.present() if not each.lease]
    after.keys.revision = after.keys.compacted = before.keys.revision + BILLION
    after.keys.history = {each.key: [(each.mod_revision, each)] for each in kept}
    after.keys.living = [each.key for each in kept]
    after.keys.ever = list(after.keys.living)
    after.leases.time_ms = before.leases.time_ms
    after.leases.chosen = before.leases.chosen + BILLION
    after.users = replace(before.users, tokens={}, keys=[])
    if before.users.revision:
        after.users.revision += BILLION
    return after


@settings(max_examples=25)
@given(
    plan=PLANS_OF_USERS,
    later=st.lists(st.tuples(BATCHES, st.sampled_from([A, B, ROOT_ID])), max_size=4),
)
def test_the_restored_state_is_that_of_the_model_and_goes_on_as_it(
    plan: list[tuple[int, list[tuple[pb.CommandBatch, int]], bool]],
    later: list[tuple[pb.CommandBatch, int]],
) -> None:
    db = DriverBesideModel(BOUNDS, AUTHENTICATED)
    with_membership(db)
    for command in SETUP:
        db.send(set_up_users(command))
    for user, granted in zip((A, B, ROOT_ID), GRANTS, strict=True):
        db.send(Authored(batch(granted), user))
    for elapsed_ms, sent, _ in plan:
        db.time_ms += elapsed_ms
        db.run_upkeep()
        batches = [db.checked(*each) for each in sent]
        db.apply(entry(db.machine.applied_index + 1, db.time_ms, *batches))
    expected = restored_model(db.model.state)
    restore(db)
    db.model.state = expected
    assert state_difference(db.store, expected) is None
    assert db.machine.membership == NEW.membership
    assert db.machine.applied_hash == NEW.incarnation
    for each in later:
        db.apply(entry(db.machine.applied_index + 1, db.time_ms, db.checked(*each)))


def lock(name: bytes = b"lock", lease: int = 5) -> pb.Command:
    return pb.Command(acquire=pb.Acquire(name=name, lease=lease))


def failure(result: pb.Result) -> Exception:
    return error_of(result.failure)


@pytest.fixture
def db() -> Driver:
    made = Driver(version=AUTHENTICATED)
    with_membership(made)
    return made


def test_an_old_lock_is_free_its_token_is_refused_and_a_new_token_is_greater(db: Driver) -> None:
    db.do(grant(60_000, 5))
    old = db.do(lock()).acquire
    fenced = put(b"k", b"late")
    fenced.fences.add(name=b"lock", token=old.token)
    restored = restore(db)
    assert restored.keys_of_leases == 1
    assert isinstance(failure(db.do(fenced)), FencedOff)
    db.do(grant(60_000, 5))
    new = db.do(lock()).acquire
    assert new.held
    assert new.token > old.token + BILLION
    assert isinstance(failure(db.do(fenced)), FencedOff)


def test_what_the_old_cluster_did_after_the_backup_can_never_mean_something_else(
    db: Driver,
) -> None:
    db.do(put(b"k", b"1"))
    db.do(put(b"k", b"2"))
    last = db.machine.revision
    restore(db)
    # The old cluster has gone on: its clients know revisions and leases that are not in the backup.
    for revision in (1, last, last + 1, last + 1_000_000):
        read = db.range(EVERYTHING, EVERYTHING, revision=revision)
        assert isinstance(failure(read), RevisionCompacted)
    assert db.value(b"k") == b"2"
    assert db.get(b"k").version == 2  # type: ignore[union-attr]
    beside = Driver(version=AUTHENTICATED)
    assert db.grant(1_000) not in {beside.grant(1_000) for _ in range(100)}
    assert db.do(put(b"k", b"3")).revision == last + BILLION + 1


def test_secrets_of_tokens_are_in_no_backup(db: Driver) -> None:
    secret, hashed = b"signs everything" * 4, b"hash of a token!" * 4
    root = auth.AuthCommand(user_add=auth.UserAdd(name="root", password_hash="argon"))
    for command in (
        root,
        auth.AuthCommand(signing_key_rotate=auth.SigningKeyRotate(secret=secret)),
        auth.AuthCommand(token_create=auth.TokenCreate(id=b"1", user="root", secret_hash=hashed)),
    ):
        assert not db.do(pb.Command(auth=command)).HasField("failure")
    assert db.machine.rights.tokens
    assert db.machine.rights.signing_keys
    whole = b"".join(key + value for _, key, value in backup_rows(db.store))
    assert b"argon" in whole
    assert secret not in whole
    assert hashed not in whole
    before = db.machine.rights
    restore(db)
    after = db.machine.rights
    assert (after.tokens, after.signing_keys) == ({}, ())
    assert after.ids == before.ids
    assert after.revision == before.revision + BILLION


def test_a_backup_is_of_one_revision_whatever_is_written_meanwhile(db: Driver) -> None:
    for number in range(10):
        db.do(put(b"k%d" % number, b"old"))
    rows = backup_rows(db.store)
    first = next(rows)
    db.do(put(b"k5", b"new"))
    db.do(put(b"z", b"new"))
    left = [first, *rows]
    assert not any(value.endswith(b"new") for _, _, value in left)


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        (Family.LEASES, b"12345678", b""),
        (Family.META, b"auth/key/1", b""),
        (Family.META, b"auth/token/1", b""),
        (Family.META, META_KEY, b"short"),
        (Family.META, b"auth/state", b"\xff"),
        (Family.META, b"membership", b"\xff"),
        (Family.CURRENT, b"k", b"short"),
        (Family.CURRENT, b"", bytes(32)),
    ],
)
def test_a_row_that_no_backup_has_is_refused(family: Family, key: bytes, value: bytes) -> None:
    with pytest.raises(InvalidRequest):
        Restoration(NEW).row(family, key, value)


def test_a_state_without_its_scalars_or_with_a_later_key_is_refused(db: Driver) -> None:
    with pytest.raises(InvalidRequest, match="no row b'membership'"):
        Restoration(NEW).finish()
    restoration = Restoration(NEW)
    db.do(put(b"k"))
    for row in backup_rows(db.store):
        restoration.row(*row)
    db.do(put(b"k"))
    restoration.row(*list(backup_rows(db.store))[-1])
    with pytest.raises(InvalidRequest, match="earlier"):
        restoration.finish()

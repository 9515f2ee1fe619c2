"""The rows of a node's state beside the state of the model.

This is the one place that knows both the encoding of `raftkv.kv.records` and the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from google.protobuf.message import Message

from jepsen_lite.model.state import State
from jepsen_lite.sim.checks.message_differences import first_difference
from raftkv.kv.auth import AUTH_PREFIX
from raftkv.kv.meta import META_KEY, Meta
from raftkv.kv.records import (
    CHANGE_DELETE,
    VERSION_BYTES,
    split_change_key,
    split_history_key,
    split_lease,
    split_session_key,
    unpack_lease,
    unpack_session,
    unpack_version,
)
from raftkv.kv.store import Family, StateStore
from raftkv.rpc.v1 import auth_pb2, kv_pb2
from raftkv.wire.ranges import prefix_end

AUTH_MESSAGES: Mapping[bytes, type[Message]] = {
    b"state": auth_pb2.AuthState,
    b"user": auth_pb2.User,
    b"role": auth_pb2.AuthRole,
    b"token": auth_pb2.ServiceToken,
    b"key": auth_pb2.SigningKey,
}
DEADLINE_BYTES = 8
FINGERPRINT_BYTES = 32
LEASE_BYTES = 8


def state_difference(store: StateStore, state: State) -> str | None:
    """The first difference between the rows of a store and the model's state at the same index."""
    row = store.get(Family.META, META_KEY)
    meta = Meta() if row is None else Meta.decode(row)
    for difference in (
        _scalars(meta, state),
        _compare("key", _current(store), _living(state)),
        _compare("old version", _history(store, meta), *_superseded(state, meta)),
        _compare("change", _changes(store, meta), *_made(state, meta)),
        _compare("lease", _leases(store), _granted(state)),
        _compare("key of a lease", _lease_keys(store), _attached(state)),
        _sessions(store, state),
        _idempotency_keys(store, state),
        _compare("row of users and roles", _auth_rows(store), _users(state)),
    ):
        if difference is not None:
            return difference
    return None


def _compare(
    what: str,
    here: Mapping[Any, Any],
    model: Mapping[Any, Any],
    allowed: Mapping[Any, Any] | None = None,
) -> str | None:
    """`allowed` are rows that are about to be removed: they may be here, and need not."""
    if here == model:
        return None
    for name, value in model.items():
        if name not in here:
            return f"{what} {name} is missing, and the model has {value}"
    for name, value in here.items():
        expected = model.get(name, (allowed or {}).get(name))
        if expected is None:
            return f"{what} {name} is {value}, and the model has none"
        if expected != value:
            return f"{what} {name} is {value}, and the model has {expected}"
    return None


def _scalars(meta: Meta, state: State) -> str | None:
    here = {
        "term": meta.applied_term,
        "revision": meta.revision,
        "compacted revision": meta.compacted_revision,
        "cluster time": meta.time_ms,
        "cluster version": meta.cluster_version,
        "number of chosen leases": meta.leases_granted,
    }
    model = {
        "term": state.term,
        "revision": state.keys.revision,
        "compacted revision": state.keys.compacted,
        "cluster time": state.time_ms,
        "cluster version": state.cluster_version,
        "number of chosen leases": state.leases.chosen,
    }
    return _compare("the", here, model)


def _version(record: bytes) -> tuple[int, int, int, int, bytes]:
    return (*unpack_version(record), record[VERSION_BYTES:])


def _current(store: StateStore) -> dict[bytes, tuple[int, int, int, int, bytes]]:
    return {key: _version(record) for key, record in store.scan(Family.CURRENT, b"", None)}


def _living(state: State) -> dict[bytes, tuple[int, int, int, int, bytes]]:
    return {each.key: each.fields for each in state.keys.present()}


def _history(store: StateStore, meta: Meta) -> dict[tuple[bytes, int], Any]:
    rows = (
        (split_history_key(row), record) for row, record in store.scan(Family.HISTORY, b"", None)
    )
    # Rows of revisions to come may have been written ahead of them.
    return {name: _version(record) for name, record in rows if name[1] <= meta.revision}


def _superseded(state: State, meta: Meta) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """The old versions that can be read, and those that compaction has yet to remove."""
    kept, removable = {}, {}
    for key, versions in state.keys.history.items():
        for (_, version), (superseded_at, _) in pairwise(versions):
            if version is None:
                continue
            if superseded_at > state.keys.compacted:
                kept[key, superseded_at] = version.fields
            elif meta.compaction_cursor:
                removable[key, superseded_at] = version.fields
    return kept, removable


def _changes(store: StateStore, meta: Meta) -> dict[tuple[int, int], tuple[bytes, bool]]:
    rows = ((split_change_key(row), made) for row, made in store.scan(Family.CHANGES, b"", None))
    return {
        name: (made[1:], made[:1] == CHANGE_DELETE)
        for name, made in rows
        if name[0] <= meta.revision
    }


def _made(state: State, meta: Meta) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """The changes that a watch may start from, and those that compaction has yet to remove."""
    kept: dict[Any, Any] = {}
    removable: dict[Any, Any] = {}
    for revision, changes in state.keys.changes.items():
        if revision >= state.keys.compacted:
            kept |= {(revision, place): tuple(each) for place, each in enumerate(changes)}
        elif meta.compaction_cursor:
            removable |= {(revision, place): tuple(each) for place, each in enumerate(changes)}
    return kept, removable


def _leases(store: StateStore) -> dict[int, tuple[int, int, int]]:
    rows = store.scan(Family.LEASES, b"", None)
    return {split_lease(key): unpack_lease(row) for key, row in rows}


def _granted(state: State) -> dict[int, tuple[int, int, int]]:
    return {
        lease: (each.ttl_ms, each.deadline_ms, each.owner)
        for lease, each in state.leases.granted.items()
    }


def _lease_keys(store: StateStore) -> dict[tuple[int, bytes], bool]:
    rows = store.scan(Family.LEASE_KEYS, b"", None)
    return {(split_lease(row), row[LEASE_BYTES:]): True for row, _ in rows}


def _attached(state: State) -> dict[tuple[int, bytes], bool]:
    return {(each.lease, each.key): True for each in state.keys.present() if each.lease}


def _sessions(store: StateStore, state: State) -> str | None:
    here: dict[tuple[int, int], bytes] = {}
    acknowledged: dict[int, int] = {}
    for key, row in store.scan(Family.SESSIONS, b"", None):
        session, sequence = split_session_key(key)
        up_to, _, here[session, sequence] = unpack_session(row)
        acknowledged[session] = max(acknowledged.get(session, 0), up_to)
    model = {
        (session, sequence): result
        for session, each in state.sessions.known.items()
        for sequence, result in each.results.items()
    }
    known = {session: each.acknowledged for session, each in state.sessions.known.items()}
    return (
        _compare("session", dict.fromkeys(here, True), dict.fromkeys(model, True))
        or _compare("acknowledged sequence of session", acknowledged, known)
        or _results("session", here, model, kv_pb2.BatchResult)
    )


def _idempotency_keys(store: StateStore, state: State) -> str | None:
    deadlines: dict[bytes, int] = {}
    here: dict[bytes, bytes] = {}
    for key, row in store.scan(Family.IDEMPOTENCY, b"", None):
        deadlines[key] = int.from_bytes(row[:DEADLINE_BYTES], "little", signed=True)
        here[key] = row[DEADLINE_BYTES + FINGERPRINT_BYTES :]
    named = state.idempotency_keys.named
    return _compare(
        "deadline of idempotency key",
        deadlines,
        {key: each.expires_ms for key, each in named.items()},
    ) or _results(
        "idempotency key", here, {key: each.result for key, each in named.items()}, kv_pb2.Result
    )


def _auth_rows(store: StateStore) -> dict[bytes, Message]:
    rows = store.scan(Family.META, AUTH_PREFIX, prefix_end(AUTH_PREFIX))
    return {row: _message_of(row).FromString(value) for row, value in rows}


def _message_of(row: bytes) -> type[Message]:
    kind, _, _ = row.removeprefix(AUTH_PREFIX).partition(b"/")
    return AUTH_MESSAGES[kind]


def _users(state: State) -> dict[bytes, Message]:
    users = state.users
    rows: dict[bytes, Message] = {
        **{b"user/" + name.encode(): user for name, user in users.users.items()},
        **{b"role/" + name.encode(): role for name, role in users.roles.items()},
        **{b"token/" + id: token for id, token in users.tokens.items()},
        **{b"key/" + key.id.to_bytes(8, "big"): key for key in users.keys},
    }
    if users.revision:
        rows[b"state"] = auth_pb2.AuthState(enabled=users.enabled, revision=users.revision)
    return {AUTH_PREFIX + row: message for row, message in rows.items()}


def _results(
    what: str, here: Mapping[Any, bytes], model: Mapping[Any, Any], message: type[Any]
) -> str | None:
    for name, result in here.items():
        difference = first_difference(message.FromString(result), model[name])
        if difference is not None:
            return f"the result of {what} {name}: {difference}"
    return None

"""Locks: the queue of a name, its holder, and the check of fencing tokens.

The entries of a queue are keys (see `raftkv.wire.lock_keys`) in the order of their tokens, each
attached to its owner's lease. The first entry is the holder's. One seek finds it, however long the
queue is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from raftkv.errors import FencedOff, InvalidRequest, Refused
from raftkv.kv.execution import Execution
from raftkv.kv.overlay import StateReader
from raftkv.kv.pace import Pace, Steps
from raftkv.kv.records import fill_key_value, lease_of, unpack_version
from raftkv.kv.store import Family
from raftkv.rpc.v1 import kv_pb2
from raftkv.wire.lock_keys import entry_key, is_entry, name_of, queue_bounds

NAMES_MAX: Final = 10_000
"""Names whose queue head is remembered, and names whose queue length is."""


class LockEntry(NamedTuple):
    """An entry of a queue. `record` is the record of its key."""

    token: int
    key: bytes
    record: bytes


class QueueHeads:
    """A cache of where queues begin and which queues are empty. It may forget, but is never wrong.

    It saves seeks and decides nothing. A seek to the start of a queue passes the deletion markers
    of all former holders of the name: 8 ms after 20,000 of them. Even a short seek is a third of
    the cost of an acquire.
    """

    def __init__(self) -> None:
        self._tokens: dict[bytes, int] = {}
        self._sizes: dict[bytes, int] = {}

    def first_token(self, name: bytes) -> int:
        """No entry of the queue has a lower token. It stays true, because tokens only grow."""
        return self._tokens.get(name, 0)

    def is_empty(self, name: bytes) -> bool:
        """Whether the queue is known to be empty."""
        return self._sizes.get(name) == 0

    def set_holder(self, name: bytes, token: int) -> None:
        """The entry with this token is the first one of the queue."""
        _remember(self._tokens, name, token)

    def set_empty(self, name: bytes) -> None:
        """The queue is empty. Its entries are counted from now on."""
        _remember(self._sizes, name, 0)

    def created(self, key: bytes, revision: int) -> None:
        """A key was created, which may be an entry of a queue."""
        self._count(key, revision, 1)

    def deleted(self, key: bytes, create_revision: int) -> None:
        """A key was deleted, which may have been an entry of a queue."""
        self._count(key, create_revision, -1)

    def changed(self, key: bytes) -> None:
        """A key was created, changed or deleted. The length of its queue is unknown from now on."""
        name = self._known_queue_of(key)
        if name is not None:
            del self._sizes[name]

    def _count(self, key: bytes, create_revision: int, change: int) -> None:
        name = self._known_queue_of(key)
        if name is not None and is_entry(name, key, create_revision):
            self._sizes[name] += change

    def _known_queue_of(self, key: bytes) -> bytes | None:
        """The name whose queue the key may belong to, if the length of that queue is known."""
        if not self._sizes:  # most keys are written where no lock is in use
            return None
        name = name_of(key)
        return name if name in self._sizes else None


def _remember(known: dict[bytes, int], name: bytes, number: int) -> None:
    if name not in known and len(known) >= NAMES_MAX:
        del known[next(iter(known))]
    known[name] = number


def rows(view: StateReader, name: bytes, from_token: int = 0) -> Iterator[LockEntry | None]:
    """The entries of the queue from a token on, the holder first. None for each key between them
    that is no entry.
    """
    _, end = queue_bounds(name)
    for key, record in view.scan(Family.CURRENT, entry_key(name, from_token), end):
        token = unpack_version(record)[0]
        yield LockEntry(token, key, record) if is_entry(name, key, token) else None


def entries(view: StateReader, name: bytes, from_token: int = 0) -> Iterator[LockEntry]:
    """The entries of the queue from a token on, the holder first."""
    return (row for row in rows(view, name, from_token) if row is not None)


def holder(
    view: StateReader, name: bytes, heads: QueueHeads, pace: Pace
) -> Steps[LockEntry | None]:
    """The entry that holds the lock. Pauses only between keys that are no entries."""
    if heads.is_empty(name):
        return None
    first = heads.first_token(name)
    if first:
        record = view.get(Family.CURRENT, entry_key(name, first))
        if record is not None and unpack_version(record)[0] == first:
            return LockEntry(first, entry_key(name, first), record)
    for found in rows(view, name, first):
        if found is not None:
            heads.set_holder(name, found.token)
            return found
        if pace.spend(1):
            yield
    heads.set_empty(name)
    return None


def has_entry(view: StateReader, name: bytes, token: int) -> bool:
    """Whether the queue has an entry with this token, as the holder or waiting."""
    record = view.get(Family.CURRENT, entry_key(name, token))
    return record is not None and unpack_version(record)[0] == token


def check_fence(execution: Execution, fence: kv_pb2.Fence) -> Steps[None]:
    """Raise `FencedOff` unless the token is that of the current holder, whose lease is living."""
    view, pace = execution.writer.overlay, execution.budget.pace
    found = yield from holder(view, fence.name, execution.queue_heads, pace)
    if found is not None and lease_of(found.record) not in execution.leases:
        found = None  # its lease has expired, and upkeep has yet to delete its key
    if found is None or found.token != fence.token:
        state = "nobody holds it" if found is None else f"token {found.token} does"
        raise FencedOff(
            f"token {fence.token} does not hold {fence.name!r} now: {state}; stop what was done"
            " under it, and acquire anew",
            holder_token=0 if found is None else found.token,
        )


def acquire(execution: Execution, request: kv_pb2.Acquire, result: kv_pb2.Result) -> Steps[None]:
    """Join the queue. With `only_if_free`, join it only as the holder."""
    if not request.name:
        raise InvalidRequest("acquire.name is empty; a lock's name has at least one byte")
    writer, leases, budget = execution.writer, execution.leases, execution.budget
    heads, answer = execution.queue_heads, result.acquire
    found = yield from holder(writer.overlay, request.name, heads, budget.pace)
    answer.held = found is None
    if found is not None:
        budget.count_key_value(found.key, found.record)
        fill_key_value(answer.holder, found.key, found.record)
        if request.only_if_free:
            return
    token = writer.revision
    key = entry_key(request.name, token)
    if writer.get(key) is not None:
        raise Refused(f"the key {key!r} is in the way of this lock's queue; delete it")
    lease = request.lease
    if lease:
        leases.require_room(lease, execution.lease_sizes)
    else:
        lease, answer.ttl_ms = leases.grant(0, request.ttl_ms)
    writer.put(key, request.value, lease, None)
    answer.key, answer.token, answer.lease = key, token, lease
    if answer.held:
        heads.set_holder(request.name, token)
    result.revision = writer.revision

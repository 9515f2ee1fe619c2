"""Queues of names: who holds a lock and who waits. Knows keys and tokens, nothing about waiting.

A member is attached to its owner's lease. The members stand in the order in which they joined, the
holder is the first, and one seek finds it however many wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from raftkv.errors import FencedOff, InvalidRequest, Refused
from raftkv.kv.budget import Budget
from raftkv.kv.leases import Leases
from raftkv.kv.mvcc import Writer
from raftkv.kv.overlay import StateReader
from raftkv.kv.pace import Pace, Steps
from raftkv.kv.queues import QueueHeads
from raftkv.kv.records import fill_key_value, unpack_version
from raftkv.kv.store import Family
from raftkv.rpc.v1 import kv_pb2
from raftkv.wire.lock_keys import entry_key, is_entry, queue_bounds


class QueueMember(NamedTuple):
    """One of a queue. `record` is that of its key."""

    token: int
    key: bytes
    record: bytes


def rows(view: StateReader, name: bytes, front: int = 0) -> Iterator[QueueMember | None]:
    """All members of the queue, the holder first; none is below `front`. None for each key that
    somebody else has written in their midst.
    """
    _, end = queue_bounds(name)
    for key, record in view.scan(Family.CURRENT, entry_key(name, front), end):
        token = unpack_version(record)[0]
        yield QueueMember(token, key, record) if is_entry(name, key, token) else None


def members(view: StateReader, name: bytes, front: int = 0) -> Iterator[QueueMember]:
    """All members of the queue, the holder first; none is below `front`."""
    return (row for row in rows(view, name, front) if row is not None)


def holder(
    view: StateReader, name: bytes, fronts: QueueHeads, pace: Pace
) -> Steps[QueueMember | None]:
    """Who holds the lock. Pauses only among keys that are no members."""
    if fronts.is_empty(name):
        return None
    front = fronts.of(name)
    if front:
        record = view.get(Family.CURRENT, entry_key(name, front))
        if record is not None and unpack_version(record)[0] == front:
            return QueueMember(front, entry_key(name, front), record)
    for found in rows(view, name, front):
        if found is not None:
            fronts.note(name, found.token)
            return found
        if pace.spend(1):
            yield
    fronts.note_empty(name)
    return None


def is_member(view: StateReader, name: bytes, token: int) -> bool:
    """Whether the one that joined at `token` holds the lock or waits for it."""
    record = view.get(Family.CURRENT, entry_key(name, token))
    return record is not None and unpack_version(record)[0] == token


def check_fence(
    view: StateReader, fence: kv_pb2.Fence, fronts: QueueHeads, leases: Leases, pace: Pace
) -> Steps[None]:
    """Raise `FencedOff` unless the token is that of the present holder, whose lease lives."""
    present = yield from holder(view, fence.name, fronts, pace)
    if present is not None and unpack_version(present.record)[3] not in leases:
        present = None  # it is over for it; its key goes with the next upkeep
    if present is None or present.token != fence.token:
        told = "nobody holds it" if present is None else f"token {present.token} does"
        raise FencedOff(
            f"token {fence.token} does not hold {fence.name!r} now: {told}; stop what was done"
            " under it, and acquire anew",
            holder_token=0 if present is None else present.token,
        )


def acquire(
    writer: Writer,
    request: kv_pb2.Acquire,
    result: kv_pb2.Result,
    leases: Leases,
    fronts: QueueHeads,
    budget: Budget,
) -> Steps[None]:
    """Join the queue, or with `only_if_free` become the holder or nothing."""
    if not request.name:
        raise InvalidRequest("acquire.name is empty; a lock's name has at least one byte")
    view, answer = writer.overlay, result.acquire
    present = yield from holder(view, request.name, fronts, budget.pace)
    answer.held = present is None
    if present is not None:
        budget.take_key_value(present.key, present.record)
        fill_key_value(answer.holder, present.key, present.record)
        if request.only_if_free:
            return
    token = writer.revision
    key = entry_key(request.name, token)
    if writer.get(key) is not None:
        raise Refused(f"the key {key!r} is in the way of this lock's queue; delete it")
    lease = request.lease
    if lease:
        leases.require_room(lease, writer.lease_sizes)
    else:
        lease, answer.ttl_ms = leases.grant(0, request.ttl_ms)
    writer.put(key, request.value, lease, None)
    answer.key, answer.token, answer.lease = key, token, lease
    if answer.held:
        fronts.note(request.name, token)
    result.revision = writer.revision

"""What a watch wants to hear of, and how a change is told to it: encoded once for all who listen.

Knows requests and messages, nothing about streams.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from raftkv.errors import InvalidRequest, TooLarge
from raftkv.kv.changes import Change
from raftkv.kv.limits import Limits
from raftkv.kv.records import fill_key_value, unpack_version
from raftkv.rpc.v1 import api_pb2
from raftkv.wire.ranges import exclusive_end

EVENTS_FIELD: Final = api_pb2.WatchNews.EVENTS_FIELD_NUMBER


class WatchFilter(NamedTuple):
    """Keys from `key` on, before `end` (None: no end), and what of their changes is told."""

    key: bytes
    end: bytes | None
    prev_kv: bool
    puts: bool
    deletes: bool

    @property
    def is_one_key(self) -> bool:
        return self.end == self.key + b"\x00"


def interest_of(request: api_pb2.WatchCreate, limits: Limits) -> WatchFilter:
    """What the request asks for. Raises `InvalidRequest` if that can never be anything."""
    key, range_end = request.key, request.range_end
    if not key:
        raise InvalidRequest(
            "watch.key is empty; a key has at least one byte, and all keys are from 0x00 on",
            field="watch.key",
        )
    if len(key) > limits.key_bytes_max:
        raise TooLarge(
            f"watch.key has {len(key)} bytes, the limit is {limits.key_bytes_max}",
            field="watch.key",
            bytes_max=limits.key_bytes_max,
        )
    end = exclusive_end(key, range_end) if range_end else key + b"\x00"
    if end is not None and end <= key:
        raise InvalidRequest(
            "the range of the watch is empty; range_end has to be after key", field="range_end"
        )
    if request.no_put and request.no_delete:
        raise InvalidRequest(
            "the watch wants neither puts nor deletions; leave no_put or no_delete away",
            field="no_delete",
        )
    if request.start_revision < 0:
        raise InvalidRequest(
            f"start_revision is {request.start_revision}; give a revision, or 0 for what comes",
            field="start_revision",
        )
    return WatchFilter(key, end, request.prev_kv, not request.no_put, not request.no_delete)


class EncodedChange:
    """One change as the events that listeners get, each form encoded when it is first wanted."""

    __slots__ = ("_change", "_plain", "_with_old")

    def __init__(self, change: Change) -> None:
        self._change = change
        self._plain: bytes | None = None
        self._with_old: bytes | None = None

    def to(self, interest: WatchFilter) -> bytes | None:
        """A part of a WatchNews, None if the interest does not want to hear of it."""
        if not (interest.deletes if self._change.record is None else interest.puts):
            return None
        if interest.prev_kv and self._change.old is not None:
            if self._with_old is None:
                self._with_old = _encoded(self._change, with_old=True)
            return self._with_old
        if self._plain is None:
            self._plain = _encoded(self._change, with_old=False)
        return self._plain


def _encoded(change: Change, *, with_old: bool) -> bytes:
    event = api_pb2.WatchEvent()
    if change.record is None:
        event.deleted = True
        event.kv.key = change.key
        event.kv.mod_revision = change.revision
    else:
        create_revision, _, _, _ = unpack_version(change.record)
        event.created = create_revision == change.revision
        fill_key_value(event.kv, change.key, change.record)
    if with_old and change.old is not None:
        fill_key_value(event.prev_kv, change.key, change.old)
    return as_field(EVENTS_FIELD, event.SerializeToString())


def as_field(number: int, message: bytes) -> bytes:
    """An encoded message as the field of that number in another one.

    Encoded messages may be strung together: that is how what many hear is encoded once.
    """
    prefix = bytearray((number << 3 | 2,))  # 2: what follows has a length
    length = len(message)
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + message

"""Watch filters: which changes a watcher receives, and how each change is encoded as an event."""

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
    """The changes that a watcher receives: of keys from `key` on, before `end` (None: no end)."""

    key: bytes
    end: bytes | None
    prev_kv: bool
    puts: bool
    deletes: bool

    @property
    def is_one_key(self) -> bool:
        return self.end == self.key + b"\x00"


def filter_of(request: api_pb2.WatchCreate, limits: Limits) -> WatchFilter:
    """The filter of a watch request. Raises `InvalidRequest` if no change can ever pass it."""
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
    """One change as an encoded event. Each form, with and without the previous value, is encoded
    when the first watcher needs it, and shared by all watchers.
    """

    __slots__ = ("_change", "_event", "_event_with_prev_kv")

    def __init__(self, change: Change) -> None:
        self._change = change
        self._event: bytes | None = None
        self._event_with_prev_kv: bytes | None = None

    def event_for(self, watch_filter: WatchFilter) -> bytes | None:
        """The `events` field of a WatchNews; None if the filter excludes the change."""
        if not (watch_filter.deletes if self._change.record is None else watch_filter.puts):
            return None
        if watch_filter.prev_kv and self._change.old is not None:
            if self._event_with_prev_kv is None:
                self._event_with_prev_kv = _encode_event(self._change, with_prev_kv=True)
            return self._event_with_prev_kv
        if self._event is None:
            self._event = _encode_event(self._change, with_prev_kv=False)
        return self._event


def _encode_event(change: Change, *, with_prev_kv: bool) -> bytes:
    event = api_pb2.WatchEvent()
    if change.record is None:
        event.deleted = True
        event.kv.key = change.key
        event.kv.mod_revision = change.revision
    else:
        create_revision, _, _, _ = unpack_version(change.record)
        event.created = create_revision == change.revision
        fill_key_value(event.kv, change.key, change.record)
    if with_prev_kv and change.old is not None:
        fill_key_value(event.prev_kv, change.key, change.old)
    return as_field(EVENTS_FIELD, event.SerializeToString())


def as_field(number: int, message: bytes) -> bytes:
    """An encoded message as field `number` of an enclosing message.

    Encoded fields may be concatenated, so events shared by many watchers are encoded once.
    """
    prefix = bytearray((number << 3 | 2,))  # wire type 2: length-delimited
    length = len(message)
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + message

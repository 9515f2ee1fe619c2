"""Changes as a watch tells them, and how they are read from the wire."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from raftkv.client.results import KeyValue, key_value_of
from raftkv.rpc import api_pb2


class EventKind(enum.Enum):
    """What a `WatchEvent` tells."""

    PUT = "put"
    DELETE = "delete"
    PROGRESS = "progress"  # no change: everything up to `revision` has been told


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One key changed at `revision`."""

    kind: EventKind
    revision: int
    key: bytes = b""
    value: bytes = b""  # of a put
    created: bool = False  # the put began a new generation of the key
    kv: KeyValue | None = None  # what a put made
    prev_kv: KeyValue | None = None  # what was there before, if asked for and not compacted

    @property
    def size_bytes(self) -> int:
        """What it takes in memory, about."""
        previous = 0 if self.prev_kv is None else len(self.prev_kv.value)
        return EVENT_OVERHEAD_BYTES + len(self.key) + len(self.value) + previous


EVENT_OVERHEAD_BYTES = 400


def events_of(events: Iterable[api_pb2.WatchEvent]) -> list[WatchEvent]:
    """The events of a message, in order."""
    return [_event_of(event) for event in events]


def _event_of(event: api_pb2.WatchEvent) -> WatchEvent:
    prev_kv = key_value_of(event.prev_kv) if event.HasField("prev_kv") else None
    if event.deleted:
        revision = event.kv.mod_revision
        return WatchEvent(EventKind.DELETE, revision, event.kv.key, prev_kv=prev_kv)
    kv = key_value_of(event.kv)
    return WatchEvent(EventKind.PUT, kv.mod_revision, kv.key, kv.value, event.created, kv, prev_kv)

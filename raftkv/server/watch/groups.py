"""Watcher groups: watchers with the same filter share the encoded events of a change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from raftkv.kv.changes import Change
from raftkv.rpc.v1 import api_pb2
from raftkv.server.watch.filter import EncodedChange, WatchFilter
from raftkv.server.watch.interval_index import IntervalIndex
from raftkv.server.watch.stream import EncodedResponse, ResponseStream

FRAGMENT_BYTES_MAX: Final = 1 << 20
"""A response with more bytes of events is split into fragments, even within one revision."""


@dataclass(frozen=True, slots=True, eq=False)
class Watcher:
    """One watch of one stream. It receives changes at `start_revision` and later."""

    watch_id: int
    stream: ResponseStream
    filter: WatchFilter
    start_revision: int
    progress_notify: bool


class WatcherGroup:
    """Watchers with the same filter and start revision (0 in the synced groups, where all of them
    receive every change).
    """

    __slots__ = ("_encoded_ids", "filter", "start_revision", "watchers")

    def __init__(self, watch_filter: WatchFilter, start_revision: int) -> None:
        self.filter = watch_filter
        self.start_revision = start_revision
        self.watchers: dict[ResponseStream, dict[int, Watcher]] = {}
        # Of each stream whose watchers are the same as at its last response.
        self._encoded_ids: dict[ResponseStream, bytes] = {}

    def add(self, watcher: Watcher) -> None:
        self.watchers.setdefault(watcher.stream, {})[watcher.watch_id] = watcher
        self._encoded_ids.pop(watcher.stream, None)

    def remove(self, watcher: Watcher) -> None:
        of_stream = self.watchers[watcher.stream]
        del of_stream[watcher.watch_id]
        self._encoded_ids.pop(watcher.stream, None)
        if not of_stream:
            del self.watchers[watcher.stream]

    def send(self, bodies: Sequence[bytes]) -> None:
        """Queue the responses on each stream, with the ids of its watchers."""
        for stream, watchers in self.watchers.items():
            ids = self._encoded_ids.get(stream)
            if ids is None:
                ids = self._encoded_ids[stream] = encode_ids(watchers)
            for body in bodies:
                stream.push(EncodedResponse(ids, body))


class WatcherGroups:
    """The groups of watchers that receive the same changes at the same time, indexed by key."""

    def __init__(self) -> None:
        self._index: IntervalIndex[WatcherGroup] = IntervalIndex()
        self._groups: dict[tuple[WatchFilter, int], WatcherGroup] = {}

    def __bool__(self) -> bool:
        return bool(self._groups)

    def add(self, watcher: Watcher, start_revision: int = 0) -> None:
        """The watcher receives changes at `start_revision` and later."""
        key = watcher.filter, start_revision
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = WatcherGroup(*key)
            self._index.add(watcher.filter, group)
        group.add(watcher)

    def remove(self, watcher: Watcher, start_revision: int = 0) -> None:
        """Remove the watcher, which was added with this `start_revision`."""
        key = watcher.filter, start_revision
        group = self._groups[key]
        group.remove(watcher)
        if not group.watchers:
            del self._groups[key]
            self._index.remove(watcher.filter, group)

    def select(self, change: Change, into: dict[WatcherGroup, list[bytes]]) -> int:
        """Append the change's event for each group that receives it; returns the bytes of
        events.
        """
        encoded = EncodedChange(change)
        size_bytes = 0
        for group in self._index.find(change.key):
            if change.revision >= group.start_revision:
                event = encoded.event_for(group.filter)
                if event is not None:
                    into.setdefault(group, []).append(event)
                    size_bytes += len(event)
        return size_bytes


def encode_ids(ids: Iterable[int]) -> bytes:
    """The `watch_ids` field of a WatchNews."""
    return api_pb2.WatchNews(watch_ids=ids).SerializeToString()


def encode_bodies(events: list[bytes], revision: int) -> list[bytes]:
    """The other fields of the WatchNews with these events: one body, or several fragments."""
    *first, last = _fragments(events)
    more = api_pb2.WatchNews(more=True).SerializeToString()
    end = api_pb2.WatchNews(revision=revision).SerializeToString()
    return [*(fragment + more for fragment in first), last + end]


def _fragments(events: list[bytes]) -> Iterator[bytes]:
    fragment: list[bytes] = []
    size = 0
    for event in events:
        if fragment and size + len(event) > FRAGMENT_BYTES_MAX:
            yield b"".join(fragment)
            fragment, size = [], 0
        fragment.append(event)
        size += len(event)
    yield b"".join(fragment)

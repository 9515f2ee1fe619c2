"""Watches that hear of changes together. Those with the same interest are told in the same bytes.

Knows who wants to hear what, not whether that is news or history.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from raftkv.kv.changes import Change
from raftkv.rpc.v1 import api_pb2
from raftkv.server.watch.filter import EncodedChange, WatchFilter
from raftkv.server.watch.interval_index import IntervalIndex
from raftkv.server.watch.stream import EncodedResponse, ResponseStream

NEWS_BYTES_MAX: Final = 1 << 20
"""More events than this has room for are told in several pieces, however they belong together."""


@dataclass(frozen=True, slots=True, eq=False)
class Watcher:
    """One watch of one stream. It hears of changes at `start` and later."""

    watch_id: int
    stream: ResponseStream
    interest: WatchFilter
    start: int
    progress_notify: bool


class WatcherGroup:
    """Watches with the same interest that started at the same revision, if that matters."""

    __slots__ = ("_ids", "interest", "members", "start")

    def __init__(self, interest: WatchFilter, start: int) -> None:
        self.interest = interest
        self.start = start
        self.members: dict[ResponseStream, dict[int, Watcher]] = {}
        self._ids: dict[
            ResponseStream, bytes
        ] = {}  # encoded, of the streams told since they changed

    def add(self, watch: Watcher) -> None:
        self.members.setdefault(watch.stream, {})[watch.watch_id] = watch
        self._ids.pop(watch.stream, None)

    def remove(self, watch: Watcher) -> None:
        watches = self.members[watch.stream]
        del watches[watch.watch_id]
        self._ids.pop(watch.stream, None)
        if not watches:
            del self.members[watch.stream]

    def tell(self, bodies: Sequence[bytes]) -> None:
        """Send each stream the news, with the ids of its watches."""
        for stream, watches in self.members.items():
            ids = self._ids.get(stream)
            if ids is None:
                ids = self._ids[stream] = ids_field(watches)
            for body in bodies:
                stream.push(EncodedResponse(ids, body))


class WatcherGroups:
    """All who are told of the same changes at the same time."""

    def __init__(self) -> None:
        self._index: IntervalIndex[WatcherGroup] = IntervalIndex()
        self._groups: dict[tuple[WatchFilter, int], WatcherGroup] = {}

    def __bool__(self) -> bool:
        return bool(self._groups)

    def join(self, watch: Watcher, start: int = 0) -> None:
        """The watch is told of what is at revision `start` or later."""
        group = self._groups.get((watch.interest, start))
        if group is None:
            group = self._groups[watch.interest, start] = WatcherGroup(watch.interest, start)
            self._index.add(watch.interest, group)
        group.add(watch)

    def leave(self, watch: Watcher, start: int = 0) -> None:
        """The watch, which joined with this `start`, is told no more."""
        group = self._groups[watch.interest, start]
        group.remove(watch)
        if not group.members:
            del self._groups[watch.interest, start]
            self._index.remove(watch.interest, group)

    def select(self, change: Change, into: dict[WatcherGroup, list[bytes]]) -> int:
        """Add the change to what each group is going to be told; the bytes that this takes."""
        telling = EncodedChange(change)
        size_bytes = 0
        for group in self._index.find(change.key):
            if change.revision >= group.start:
                event = telling.to(group.interest)
                if event is not None:
                    into.setdefault(group, []).append(event)
                    size_bytes += len(event)
        return size_bytes


def ids_field(ids: Iterable[int]) -> bytes:
    """The head of a WatchNews."""
    return api_pb2.WatchNews(watch_ids=ids).SerializeToString()


def bodies_of(events: list[bytes], revision: int) -> list[bytes]:
    """The rest of the WatchNews that bring these events, in pieces that a message can hold."""
    *first, last = _pieces(events)
    more = api_pb2.WatchNews(more=True).SerializeToString()
    end = api_pb2.WatchNews(revision=revision).SerializeToString()
    return [*(piece + more for piece in first), last + end]


def _pieces(events: list[bytes]) -> Iterator[bytes]:
    piece: list[bytes] = []
    size = 0
    for event in events:
        if piece and size + len(event) > NEWS_BYTES_MAX:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(event)
        size += len(event)
    yield b"".join(piece)

"""Hands what arrives to the watches it is for: once decoded, shared, and in few deliveries.

With a thousand consumers it is their waking that costs. So what arrives while others run is merged
and handed out at once, and after a delivery that took long the next one waits for as long, up to
10 ms: the network gets its share of the loop. A lone consumer waits for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from raftkv.client.model.results import WatchEvent, events_of
from raftkv.client.watch.watcher import EventBatch, WatchState
from raftkv.rpc.v1 import api_pb2

LONG_DELIVERY_S = 0.001
PAUSE_S_MAX = 0.01


class WatchDispatcher:
    """Gathers parcels by whom they are for. `on_overfull` is told of who takes too slowly."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_overfull: Callable[[WatchState], None]
    ) -> None:
        self._loop = loop
        self._on_overfull = on_overfull
        self._growing: dict[tuple[int, ...], EventBatch] = {}  # more may be put into these
        self._gathered: list[tuple[EventBatch, list[WatchState]]] = []
        self._parts: dict[tuple[int, ...], list[WatchEvent]] = {}  # of what came in pieces
        self._delivery: asyncio.Handle | None = None
        self._not_before = 0.0

    def gather(self, news: api_pb2.WatchNews, watches: Mapping[int, WatchState]) -> None:
        """Events have arrived; they are delivered soon."""
        ids = tuple(news.watch_ids)
        events = events_of(news.events)
        if news.more:
            self._parts.setdefault(ids, []).extend(events)
            return
        if self._parts:
            events = [*self._parts.pop(ids, ()), *events]
        parcel = self._growing.get(ids)
        if parcel is None:
            parcel = self._open(ids, watches)
        parcel.add(events, news.revision)

    def deliver(self) -> None:
        """Hand out what has gathered, now."""
        if self._delivery is not None:
            self._delivery.cancel()
            self._delivery = None
        gathered, self._gathered = self._gathered, []
        self._growing.clear()
        if not gathered:
            return
        began = self._loop.time()
        for parcel, watches in gathered:
            parcel.seal()
            for watcher in watches:
                watcher.open_parcel = None
                watcher.deliver(parcel)
        for _, watches in gathered:
            for watcher in watches:
                if watcher.overfull and not watcher.paused:
                    self._on_overfull(watcher)
        self._loop.call_soon(self._delivered, began)  # after the consumers that were just woken

    def break_off(self) -> None:
        """The stream is over: what came in pieces will come again, whole."""
        self._parts.clear()
        self.deliver()

    def close(self) -> None:
        """Deliver nothing more."""
        if self._delivery is not None:
            self._delivery.cancel()
            self._delivery = None
        self._gathered.clear()

    def _open(self, ids: tuple[int, ...], watches: Mapping[int, WatchState]) -> EventBatch:
        parcel = self._growing[ids] = EventBatch()
        addressees = [watches[watch_id] for watch_id in ids if watch_id in watches]
        for watcher in addressees:
            if watcher.open_parcel is not None:
                # Whatever follows belongs behind this one, so the earlier one must not grow.
                self._growing.pop(watcher.open_parcel, None)
            watcher.open_parcel = ids
        self._gathered.append((parcel, addressees))
        if self._delivery is None:
            # call_at waits for a turn of the loop at least: what is read in this one is merged.
            self._delivery = self._loop.call_at(self._not_before, self._due)
        return parcel

    def _due(self) -> None:
        self._delivery = None
        self.deliver()

    def _delivered(self, began: float) -> None:
        now = self._loop.time()
        if now - began > LONG_DELIVERY_S:
            self._not_before = now + min(now - began, PAUSE_S_MAX)

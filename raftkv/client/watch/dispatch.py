"""Delivers arriving events to the watches that they are for, decoded once and merged into batches.

With a thousand consumers, waking them is the cost. So the events that arrive in one turn of the
loop are merged and delivered together. After a delivery that took long, the next one is delayed by
the same time, at most 10 ms, so that the network has its share of the loop. A lone consumer gets
its events without delay.
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
    """Collects event batches, one for each set of watches, and delivers them.

    `on_overfull` is called with each watch whose consumer is too slow.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_overfull: Callable[[WatchState], None]
    ) -> None:
        self._loop = loop
        self._on_overfull = on_overfull
        self._growing: dict[tuple[int, ...], EventBatch] = {}  # open: more events may be added
        self._collected: list[tuple[EventBatch, list[WatchState]]] = []
        # Of responses that arrive in several parts.
        self._parts: dict[tuple[int, ...], list[WatchEvent]] = {}
        self._delivery: asyncio.Handle | None = None
        self._not_before = 0.0

    def collect(self, response: api_pb2.WatchNews, watches: Mapping[int, WatchState]) -> None:
        """Events have arrived; they are delivered soon."""
        ids = tuple(response.watch_ids)
        events = events_of(response.events)
        if response.more:
            self._parts.setdefault(ids, []).extend(events)
            return
        if self._parts:
            events = [*self._parts.pop(ids, ()), *events]
        batch = self._growing.get(ids)
        if batch is None:
            batch = self._open(ids, watches)
        batch.add(events, response.revision)

    def deliver(self) -> None:
        """Deliver what has been collected, now."""
        if self._delivery is not None:
            self._delivery.cancel()
            self._delivery = None
        collected, self._collected = self._collected, []
        self._growing.clear()
        if not collected:
            return
        began = self._loop.time()
        for batch, watches in collected:
            batch.seal()
            for watch in watches:
                watch.open_batch = None
                watch.deliver(batch)
        for _, watches in collected:
            for watch in watches:
                if watch.overfull and not watch.paused:
                    self._on_overfull(watch)
        # Runs after the consumers that were just woken.
        self._loop.call_soon(self._delivered, began)

    def end_stream(self) -> None:
        """The stream is over: a response that has arrived in part will be sent again as a whole."""
        self._parts.clear()
        self.deliver()

    def close(self) -> None:
        """Deliver nothing more."""
        if self._delivery is not None:
            self._delivery.cancel()
            self._delivery = None
        self._collected.clear()

    def _open(self, ids: tuple[int, ...], watches: Mapping[int, WatchState]) -> EventBatch:
        batch = self._growing[ids] = EventBatch()
        receivers = [watches[watch_id] for watch_id in ids if watch_id in watches]
        for watch in receivers:
            if watch.open_batch is not None:
                # Later events belong after this batch, so nothing may be added to the earlier one.
                self._growing.pop(watch.open_batch, None)
            watch.open_batch = ids
        self._collected.append((batch, receivers))
        if self._delivery is None:
            # call_at runs in a later turn of the loop: what is read in this one is merged.
            self._delivery = self._loop.call_at(self._not_before, self._due)
        return batch

    def _due(self) -> None:
        self._delivery = None
        self.deliver()

    def _delivered(self, began: float) -> None:
        now = self._loop.time()
        if now - began > LONG_DELIVERY_S:
            self._not_before = now + min(now - began, PAUSE_S_MAX)

"""The live watches of a node: told of changes in the turn in which they are applied.

Follows the node's changes only while somebody watches. Knows nothing of history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from raftkv.kv.changes import Change
from raftkv.server.node_port import NodePort
from raftkv.server.watch.groups import Watcher, WatcherGroup, WatcherGroups, bodies_of
from raftkv.server.watch.stream import ResponseStream

CHANGES_AT_ONCE_MAX: Final = 1_000
"""Of more changes, as a large deletion makes them, the watches read in history, step by step: here
they would take more time than a turn of the loop has. So would moving more watches than that."""


class SyncedStream(Protocol):
    """The watches of one stream."""

    @property
    def stream(self) -> ResponseStream: ...

    def fall_behind(self, revision: int) -> None:
        """Take the live watches back and read from `revision` on in history."""

    def wake(self) -> None:
        """The revision that was waited for is there."""

    def notify_progress(self) -> None:
        """It is time to say how far those are that asked to hear that."""


class SyncedWatchers:
    """Tells the live watches of all clients."""

    def __init__(self, node: NodePort, progress_interval_s: float) -> None:
        self._node = node
        self._loop = asyncio.get_running_loop()
        self._progress_interval_s = progress_interval_s
        self._timer: asyncio.TimerHandle | None = None
        self._audience = WatcherGroups()
        self._clients: dict[ResponseStream, SyncedStream] = {}
        self._waiting: dict[SyncedStream, int] = {}  # for a revision that is to come
        self._following = False
        self._told = 0
        self.watches = 0  # of all clients, live or not
        # Steps through history are taken one at a time, so that many do not stall the node.
        self.history_turn = asyncio.Lock()

    @property
    def revision(self) -> int:
        """Live watches have been told of everything up to here."""
        return self._node.machine.revision

    def open(self, client: SyncedStream) -> None:
        """A stream has begun."""
        self._clients[client.stream] = client
        if self._timer is None:
            self._timer = self._loop.call_later(self._progress_interval_s, self._tick)

    def close(self, client: SyncedStream) -> None:
        """It has ended; its watches have left."""
        del self._clients[client.stream]
        self.wait(client, None)
        if not self._clients and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def join(self, watch: Watcher) -> None:
        """The watch is live: told of everything after the present revision."""
        self._audience.join(watch)
        self._follow_or_leave()

    def leave(self, watch: Watcher) -> None:
        """The watch is live no more."""
        self._audience.leave(watch)
        self._follow_or_leave()

    def wait(self, client: SyncedStream, revision: int | None) -> None:
        """Wake the client once the store is at `revision`; None: it does not wait."""
        if revision is None:
            self._waiting.pop(client, None)
        else:
            self._waiting[client] = revision
        self._follow_or_leave()

    # ---- the feed ------------------------------------------------------------------

    def changed(self, changes: Sequence[Change]) -> None:
        """See `ChangeSubscriber.changed`."""
        if CHANGES_AT_ONCE_MAX < len(changes) >= self.watches:
            self.jumped()
            return
        selected: dict[WatcherGroup, list[bytes]] = {}
        select = self._audience.select
        for change in changes:
            select(change, selected)
        self._told = changes[-1].revision
        full: dict[
            ResponseStream, None
        ] = {}  # no set: a simulated run must not depend on addresses
        for group, events in selected.items():
            group.tell(bodies_of(events, self._told))
            full.update((stream, None) for stream in group.members if stream.full)
        # Only now, when everybody has been told of the same revisions.
        for stream in full:
            self._clients[stream].fall_behind(self._told + 1)
        self._wake_waiting()

    def jumped(self) -> None:
        """See `ChangeSubscriber.jumped`."""
        for client in list(self._clients.values()):
            client.fall_behind(self._told + 1)
        self._told = self.revision
        self._wake_waiting()

    def _wake_waiting(self) -> None:
        for client, revision in list(self._waiting.items()):
            if revision <= self._told:
                del self._waiting[client]
                client.wake()
        self._follow_or_leave()

    def _follow_or_leave(self) -> None:
        wanted = bool(self._audience or self._waiting)
        if wanted and not self._following:
            self._told = self.revision
            self._node.changes.follow(self)
        elif self._following and not wanted:
            self._node.changes.leave(self)
        self._following = wanted

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._progress_interval_s, self._tick)
        for client in self._clients.values():
            client.notify_progress()

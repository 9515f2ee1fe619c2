"""Observes watches, at the node and at the client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jepsen_lite.sim.coverage.mark import Reach
from jepsen_lite.sim.coverage.wraps import Wraps
from jepsen_lite.sim.nodes.host import Host
from raftkv.client.watch.connection import WatchConnection
from raftkv.errors import Overloaded
from raftkv.node.change_feed import ChangeFeed
from raftkv.server.services.lock_waits import LockWaits
from raftkv.server.watch.service import WatchService
from raftkv.server.watch.session import WatchSession
from raftkv.server.watch.synced import CHANGES_AT_ONCE_MAX, SyncedWatchers


def observe_watches(wraps: Wraps, reach: Reach) -> None:
    """The watchers of a node, synced and unsynced."""

    @wraps.around(WatchSession, "_begin")
    def begin(
        original: Callable[..., None], session: WatchSession, create: Any, start: int
    ) -> None:
        following = session._synced.revision + 1
        if start == following:
            reach("a watch starts at the next revision")
        else:
            reach("a watch starts in the past" if start < following else "a watch starts ahead")
        original(session, create, start)

    @wraps.around(WatchSession, "become_unsynced")
    def become_unsynced(
        original: Callable[..., None], session: WatchSession, revision: int
    ) -> None:
        if session.stream.full:
            reach("a watch's buffer overflows")
        original(session, revision)

    @wraps.around(ChangeFeed, "follow")
    def follow(original: Callable[..., None], feed: ChangeFeed, subscriber: Any) -> None:
        if feed._machine._applying:
            reach(
                "a watch joins within a run"
                if isinstance(subscriber, SyncedWatchers)
                else "a wait for a lock joins within a run"
            )
        original(feed, subscriber)

    @wraps.around(SyncedWatchers, "changed")
    def changed(original: Callable[..., None], synced: SyncedWatchers, changes: Any) -> None:
        if CHANGES_AT_ONCE_MAX < len(changes) >= synced.watcher_count:
            reach("a watch falls behind a large change")
        original(synced, changes)

    @wraps.around(WatchSession, "_become_synced")
    def become_synced(original: Callable[..., None], session: WatchSession, group: Any) -> None:
        reach("a watch catches up")
        original(session, group)

    @wraps.around(WatchSession, "_drop_compacted")
    def drop_compacted(original: Callable[..., None], session: WatchSession, group: Any) -> None:
        before = len(session._watchers)
        original(session, group)
        if len(session._watchers) < before:
            reach("a watch ends: its history is compacted")

    @wraps.around(WatchSession, "_cancel")
    def cancel(original: Callable[..., None], session: WatchSession, watch_id: int) -> None:
        reach("a watch is cancelled")
        original(session, watch_id)

    @wraps.around(WatchSession, "_confirmed")
    def confirmed(
        original: Callable[..., None], session: WatchSession, barrier: Any, *args: Any
    ) -> None:
        if not barrier.cancelled() and barrier.exception() is not None and not session._closed:
            reach("a watch is not confirmed by a majority")
        original(session, barrier, *args)

    @wraps.around(WatchSession, "_check_bound")
    def check_bound(original: Callable[..., None], *args: Any) -> None:
        try:
            original(*args)
        except Overloaded:
            reach("a node has no room for a watch")
            raise

    @wraps.around(WatchService, "end_streams")
    def end_streams(original: Callable[..., None], service: WatchService) -> None:
        if service._streams:
            reach("a stopping node ends a watch")
        original(service)

    @wraps.around(LockWaits, "close")
    def close(original: Callable[..., None], waits: LockWaits) -> None:
        if waits._waiters:
            reach("a stopping node ends a wait for a lock")
        original(waits)

    @wraps.around(Host, "crash")
    def crash(original: Callable[..., None], host: Host, *, power: bool) -> None:
        if host.server is not None and host.server._watches._synced.watcher_count:
            reach("a node crashes beside a live watch")
        original(host, power=power)


def observe_resumed_watches(wraps: Wraps, reach: Reach) -> None:
    """Watches of a client that move from node to node."""

    @wraps.around(WatchConnection, "_move_on")
    def move_on(original: Callable[..., None], connection: WatchConnection, error: Any) -> None:
        if connection._stream is not None and connection._created_ids:
            reach("a live watch moves to another node")
        original(connection, error)

    @wraps.around(WatchConnection, "_pause")
    def pause(original: Callable[..., None], connection: WatchConnection, watch: Any) -> None:
        reach("a watch pauses: its consumer is slow")
        original(connection, watch)

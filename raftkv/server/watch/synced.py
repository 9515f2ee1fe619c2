"""Synced watchers: those that receive each change in the turn in which it is applied."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from raftkv.kv.changes import Change
from raftkv.server.node_port import NodePort
from raftkv.server.watch.groups import Watcher, WatcherGroup, WatcherGroups, encode_bodies
from raftkv.server.watch.stream import ResponseStream

CHANGES_AT_ONCE_MAX: Final = 1_000
"""After an apply with more changes, such as a large deletion, the synced watchers become unsynced
and read history in steps: notifying them here would block the event loop for too long. With more
watchers than changes, making them unsynced would take longer than notifying them."""


CREDENTIALS_INTERVAL_S: Final = 1.0
"""How late the end of a credential's time ends the stream. Other checks follow the log."""


class SyncedSession(Protocol):
    """What the synced watchers need of one stream's `WatchSession`."""

    @property
    def stream(self) -> ResponseStream: ...

    def become_unsynced(self, revision: int) -> None:
        """Remove the session's synced watchers; they read history from `revision` on."""

    def wake(self) -> None:
        """The store has reached the revision given to `wake_at`."""

    def notify_progress(self) -> None:
        """Send progress to the synced watchers that asked for it."""

    def rights_changed(self) -> None:
        """Rights may have changed, or the stream's credential may have expired: end the watchers
        that may not read their range any more, or the stream.
        """


class SyncedWatchers:
    """The synced watchers of all streams of a node.

    Follows the node's change feed only while there is a synced watcher or a session to wake.
    """

    def __init__(self, node: NodePort, progress_interval_s: float) -> None:
        self._node = node
        self._loop = asyncio.get_running_loop()
        self._progress_interval_s = progress_interval_s
        self._timer: asyncio.TimerHandle | None = None
        self._credentials_timer: asyncio.TimerHandle | None = None
        self._groups = WatcherGroups()
        self._sessions: dict[ResponseStream, SyncedSession] = {}
        self._wake_at: dict[SyncedSession, int] = {}  # the revision that each waits for
        self._following = False
        self._sent_revision = 0
        self.watcher_count = 0  # of all streams, synced or not
        self.events_sent = 0
        self.fallbacks = 0  # how often a session became unsynced
        # Unsynced groups take one step through history at a time, so that many of them do not
        # stall the node.
        self.history_lock = asyncio.Lock()

    @property
    def revision(self) -> int:
        """Synced watchers have received every change up to this revision."""
        return self._node.machine.revision

    def open(self, session: SyncedSession) -> None:
        """A stream has begun."""
        self._sessions[session.stream] = session
        if self._timer is None:
            self._node.changes.follow_rights(self)
            self._timer = self._loop.call_later(self._progress_interval_s, self._tick)
            self._credentials_timer = self._loop.call_later(
                CREDENTIALS_INTERVAL_S, self._check_credentials
            )

    def close(self, session: SyncedSession) -> None:
        """The stream has ended; its watchers were removed."""
        del self._sessions[session.stream]
        self.wake_at(session, None)
        if not self._sessions and self._timer is not None:
            self._node.changes.leave_rights(self)
            self._timer.cancel()
            self._timer = None
            if self._credentials_timer is not None:
                self._credentials_timer.cancel()

    def add(self, watcher: Watcher) -> None:
        """The watcher is synced: it receives every change after the present revision."""
        self._groups.add(watcher)
        self._follow_or_leave()

    def remove(self, watcher: Watcher) -> None:
        """The watcher is no longer synced."""
        self._groups.remove(watcher)
        self._follow_or_leave()

    def wake_at(self, session: SyncedSession, revision: int | None) -> None:
        """Wake the session once the store is at `revision`; None: do not wake it."""
        if revision is None:
            self._wake_at.pop(session, None)
        else:
            self._wake_at[session] = revision
        self._follow_or_leave()

    # ---- the feed ------------------------------------------------------------------

    def changed(self, changes: Sequence[Change]) -> None:
        """See `ChangeSubscriber.changed`."""
        if CHANGES_AT_ONCE_MAX < len(changes) >= self.watcher_count:
            self.jumped()
            return
        selected: dict[WatcherGroup, list[bytes]] = {}
        select = self._groups.select
        for change in changes:
            select(change, selected)
        self._sent_revision = changes[-1].revision
        # No set: the order of a simulated run must not depend on memory addresses.
        full: dict[ResponseStream, None] = {}
        for group, events in selected.items():
            group.send(encode_bodies(events, self._sent_revision))
            self.events_sent += len(events) * len(group.watchers)
            full.update((stream, None) for stream in group.watchers if stream.full)
        # Not before all groups have received the same revisions.
        self.fallbacks += len(full)
        for stream in full:
            self._sessions[stream].become_unsynced(self._sent_revision + 1)
        self._wake_sessions()

    def rights_changed(self) -> None:
        """See `RightsSubscriber.rights_changed`."""
        for session in list(self._sessions.values()):
            session.rights_changed()

    def _check_credentials(self) -> None:
        self._credentials_timer = self._loop.call_later(
            CREDENTIALS_INTERVAL_S, self._check_credentials
        )
        self.rights_changed()

    def jumped(self) -> None:
        """See `ChangeSubscriber.jumped`."""
        self.fallbacks += len(self._sessions)
        for session in list(self._sessions.values()):
            session.become_unsynced(self._sent_revision + 1)
        self._sent_revision = self.revision
        self._wake_sessions()

    def _wake_sessions(self) -> None:
        for session, revision in list(self._wake_at.items()):
            if revision <= self._sent_revision:
                del self._wake_at[session]
                session.wake()
        self._follow_or_leave()

    def _follow_or_leave(self) -> None:
        wanted = bool(self._groups or self._wake_at)
        if wanted and not self._following:
            self._sent_revision = self.revision
            self._node.changes.follow(self)
        elif self._following and not wanted:
            self._node.changes.leave(self)
        self._following = wanted

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._progress_interval_s, self._tick)
        for session in self._sessions.values():
            session.notify_progress()

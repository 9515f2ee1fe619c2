"""The watchers of one stream, each synced or unsynced.

    created -- start is past ---> unsynced -- has read all history --> synced
       |                          ^    ^                                 |
       |- start is in the future -+    +-- its stream is full, many -----+
       +- start is next --> synced         changes at once, or a snapshot

A watcher moves between synced and unsynced only between two revisions and within one turn of the
event loop, so it misses no event and receives none twice.

A change of rights is reported before the changes of keys that were applied with it. The watchers
that have lost their rights end then, so they receive no event of a later revision.
"""

from __future__ import annotations

import asyncio
from collections import deque

from raftkv.errors import InvalidRequest, Overloaded, RaftkvError
from raftkv.kv.limits import Limits
from raftkv.kv.rights import Access, Need
from raftkv.rpc.v1 import api_pb2
from raftkv.server import failures
from raftkv.server.authorization import Requester
from raftkv.server.node_port import NodePort
from raftkv.server.watch.filter import WatchFilter, filter_of
from raftkv.server.watch.groups import Watcher, encode_ids
from raftkv.server.watch.stream import EncodedResponse, ResponseStream
from raftkv.server.watch.synced import SyncedWatchers
from raftkv.server.watch.unsynced import UnsyncedGroup, compacted_error
from raftkv.wire.failures import failure_of

CONFIRM_TIMEOUT_S = 2.0
OVERLOADED_RETRY_AFTER_S = 1.0


class WatchSession:
    """All watchers of one stream. `run` reads history for the unsynced ones; `close` ends them
    all.
    """

    def __init__(
        self,
        node: NodePort,
        synced: SyncedWatchers,
        stream: ResponseStream,
        requester: Requester,
        limits: Limits,
        watches_max: int,
        watches_per_stream_max: int,
    ) -> None:
        self.stream = stream
        self._requester = requester
        self._node = node
        self._synced = synced
        self._limits = limits
        self._watches_max = watches_max
        self._watches_per_stream_max = watches_per_stream_max
        self._loop = asyncio.get_running_loop()
        # A request stands for a watcher whose start revision is not confirmed yet.
        self._watchers: dict[int, Watcher | api_pb2.WatchCreate] = {}
        self._group_of: dict[int, UnsyncedGroup] = {}  # of the unsynced watchers
        self._unsynced: deque[UnsyncedGroup] = deque()
        self._unsynced_changed = asyncio.Event()
        # What waits for the next read barrier; the barrier under way covers earlier requests.
        self._starting: dict[int, api_pb2.WatchCreate] = {}
        self._progress_wanted = False
        self._confirming = False
        self._closed = False
        self.refused: asyncio.Future[None] = self._loop.create_future()
        """Fails with `Unauthenticated` once the stream's user is not authenticated any more."""

        synced.open(self)

    # ---- requests ------------------------------------------------------------------

    def handle(self, request: api_pb2.WatchRequest) -> None:
        """Create and cancel watchers, and send progress, as requested.

        Raises `Unauthenticated`, and `InvalidRequest` for the token of another user.
        """
        if request.token:
            self._requester.renew(request.token)
        self._requester.author()
        for create in request.creates:
            try:
                self._create(create)
            except RaftkvError as error:
                self._send_ended([create.watch_id], error)
        for watch_id in request.cancels:
            self._cancel(watch_id)
        self._progress_wanted |= request.progress
        self._confirm()

    def _create(self, create: api_pb2.WatchCreate) -> None:
        watch_id = create.watch_id
        if watch_id in self._watchers:
            raise InvalidRequest(
                f"watch_id {watch_id} is in use on this stream; choose another one",
                field="watch_id",
            )
        watch_filter = filter_of(create, self._limits)
        self._check_bound(
            "watches of this stream", len(self._watchers), self._watches_per_stream_max
        )
        self._check_bound("watches of this node", self._synced.watcher_count, self._watches_max)
        self._synced.watcher_count += 1
        self._watchers[watch_id] = create
        # A node that lags must not refuse what was granted before: it confirms its rights first.
        if create.start_revision and self._refusal_of(watch_filter) is None:
            self._begin(create, create.start_revision)
        else:
            self._starting[watch_id] = create

    def _refusal_of(self, watch_filter: WatchFilter) -> RaftkvError | None:
        """Why the user may not read all keys of the filter; None if it may."""
        try:
            self._requester.require(Need(Access.READ, watch_filter.key, watch_filter.end))
        except RaftkvError as error:
            return error
        return None

    def rights_changed(self) -> None:
        """See `SyncedSession.rights_changed`."""
        before = self._requester.grants
        try:
            self._requester.author()
        except RaftkvError as error:
            self._refuse(error)
            return
        if self._requester.grants is before:
            return
        for watcher in list(self._watchers.values()):
            if isinstance(watcher, Watcher):  # a request is checked when its watcher begins
                refused = self._refusal_of(watcher.filter)
                if refused is not None:
                    self._end(watcher.watch_id, refused)

    def _refuse(self, error: RaftkvError) -> None:
        """End all watchers now, and the stream as soon as what is queued is sent."""
        for watch_id in list(self._watchers):
            self._cancel(watch_id)
        if not self.refused.done():
            self.refused.set_exception(error)

    def _end(self, watch_id: int, error: RaftkvError) -> None:
        """End a watch with an error."""
        self._remove(watch_id)
        self._requester.report(error)
        self._send_ended([watch_id], error)

    def _begin(self, create: api_pb2.WatchCreate, start: int) -> None:
        watcher = Watcher(
            create.watch_id,
            self.stream,
            filter_of(create, self._limits),
            start,
            create.progress_notify,
        )
        self._watchers[watcher.watch_id] = watcher
        present = self._synced.revision
        self._send(
            [watcher.watch_id], api_pb2.WatchNews(created=True, revision=min(start - 1, present))
        )
        self._add(watcher, start)

    def _cancel(self, watch_id: int) -> None:
        if watch_id in self._watchers:
            self._starting.pop(watch_id, None)
            self._remove(watch_id)

    def _remove(self, watch_id: int) -> None:
        watcher = self._watchers.pop(watch_id)
        self._synced.watcher_count -= 1
        if isinstance(watcher, Watcher):
            self._remove_from_group(watcher)

    def close(self) -> None:
        """The stream is over."""
        self._closed = True
        self.refused.cancel()
        for watch_id in list(self._watchers):
            self._remove(watch_id)
        self._synced.close(self)

    # ---- read barriers -----------------------------------------------------------------

    def _confirm(self) -> None:
        """Ask for a read barrier, on behalf of all requests that wait for one."""
        if self._confirming or self._closed or not (self._starting or self._progress_wanted):
            return
        self._confirming = True
        starting, self._starting = self._starting, {}
        progress, self._progress_wanted = self._progress_wanted, False
        barrier = self._node.read_barrier(self._loop.time() + CONFIRM_TIMEOUT_S)
        barrier.add_done_callback(lambda done: self._confirmed(done, starting, progress))

    def _confirmed(
        self,
        barrier: asyncio.Future[None],
        starting: dict[int, api_pb2.WatchCreate],
        progress: bool,
    ) -> None:
        self._confirming = False
        error = asyncio.CancelledError() if barrier.cancelled() else barrier.exception()
        if self._closed:
            return
        for watch_id, create in starting.items():
            if self._watchers.get(watch_id) is not create:
                continue  # cancelled meanwhile
            refused = (
                self._refusal_of(filter_of(create, self._limits))
                if error is None
                else failures.of_read(error)
            )
            if refused is None:
                self._begin(create, create.start_revision or self._synced.revision + 1)
            else:
                self._end(watch_id, refused)
        if progress and error is None:
            self._send((), api_pb2.WatchNews(revision=self._sent_revision()))
        self._confirm()

    def _sent_revision(self) -> int:
        """Every watcher of the stream has received every change up to this revision."""
        return min([self._synced.revision, *(group.position - 1 for group in self._unsynced)])

    def notify_progress(self) -> None:
        """See `SyncedSession.notify_progress`."""
        ids = [
            watcher.watch_id
            for watcher in self._watchers.values()
            if isinstance(watcher, Watcher)
            and watcher.progress_notify
            and watcher.watch_id not in self._group_of
        ]
        if ids:
            self._send(ids, api_pb2.WatchNews(revision=self._synced.revision))

    # ---- synced and unsynced -------------------------------------------------------------

    def _add(self, watcher: Watcher, start: int) -> None:
        """Add a watcher that receives changes from revision `start` on."""
        if start == self._synced.revision + 1:
            self._synced.add(watcher)
        else:
            self._add_unsynced(watcher, start)

    def _add_unsynced(self, watcher: Watcher, start: int) -> None:
        group = next((each for each in self._unsynced if each.accepts(start)), None)
        if group is None:
            group = UnsyncedGroup(start)
            self._unsynced.append(group)
        group.add(watcher, start)
        self._node.pin_history(start)
        self._group_of[watcher.watch_id] = group
        self._unsynced_changed.set()

    def _remove_from_group(self, watcher: Watcher) -> None:
        group = self._group_of.pop(watcher.watch_id, None)
        if group is None:
            self._synced.remove(watcher)
            return
        group.remove(watcher)
        if not group.watchers:
            self._unsynced.remove(group)

    def become_unsynced(self, revision: int) -> None:
        """See `SyncedSession.become_unsynced`."""
        for watcher in self._watchers.values():
            if isinstance(watcher, Watcher) and watcher.watch_id not in self._group_of:
                self._synced.remove(watcher)
                self._add_unsynced(watcher, revision)

    def wake(self) -> None:
        """See `SyncedSession.wake`."""
        self._unsynced_changed.set()

    # ---- history -------------------------------------------------------------------

    async def run(self) -> None:
        """Read history for the unsynced groups, one step at a time. Raises `StorageError`."""
        while True:
            await self.stream.wait_for_room()
            group = self._next_unsynced_group()
            if group is None:
                await self._unsynced_changed.wait()
                continue
            async with self._synced.history_lock:
                self._drop_compacted(group)
                self._node.pin_history(group.position)
                await group.step(self._node)
            if group.watchers and group.position > self._synced.revision:
                self._become_synced(group)
            await asyncio.sleep(0)

    def _next_unsynced_group(self) -> UnsyncedGroup | None:
        """The next group with something to read, round robin; without one, ask to be woken."""
        self._unsynced_changed.clear()
        present = self._synced.revision
        for _ in range(len(self._unsynced)):
            self._unsynced.rotate(-1)
            # A group at the end of history has nothing to read, but has yet to become synced.
            if self._unsynced[0].position <= present + 1:
                return self._unsynced[0]
        positions = [group.position for group in self._unsynced]
        self._synced.wake_at(self, min(positions) - 1 if positions else None)
        return None

    def _drop_compacted(self, group: UnsyncedGroup) -> None:
        compacted_revision = self._node.machine.compacted_revision
        lost = group.drop_compacted(compacted_revision)
        for watcher in lost:
            del self._watchers[watcher.watch_id]
            del self._group_of[watcher.watch_id]
            self._synced.watcher_count -= 1
            self._send_ended([watcher.watch_id], compacted_error(watcher, compacted_revision))
        if lost and not group.watchers:
            self._unsynced.remove(group)

    def _become_synced(self, group: UnsyncedGroup) -> None:
        """The group has read all history, within this turn of the event loop."""
        self._unsynced.remove(group)
        revision = self._synced.revision
        synced: list[int] = []
        for watcher, start in group.watchers.items():
            del self._group_of[watcher.watch_id]
            self._add(watcher, max(start, revision + 1))
            if watcher.watch_id not in self._group_of:
                synced.append(watcher.watch_id)
        # A response without ids concerns every watcher of the stream, also the unsynced ones.
        if synced:
            self._send(synced, api_pb2.WatchNews(revision=revision))

    # ---- responses -------------------------------------------------------------------

    def _send(self, ids: list[int] | tuple[()], response: api_pb2.WatchNews) -> None:
        self.stream.push(EncodedResponse(encode_ids(ids), response.SerializeToString()))

    def _send_ended(self, ids: list[int], error: RaftkvError) -> None:
        self._send(ids, api_pb2.WatchNews(ended=failure_of(error)))

    def _check_bound(self, what: str, count: int, bound: int) -> None:
        if count >= bound:
            raise Overloaded(
                f"{what}: the bound of {bound} is reached; close some, or ask another node",
                retry_after_s=OVERLOADED_RETRY_AFTER_S,
                bound=bound,
            )

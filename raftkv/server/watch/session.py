"""The watches of one client, each live or reading history. Knows requests, not the wire.

    created -- start is past --> reading history -- has caught up --> live
       |                          ^    ^                               |
       |- start is to come -------+    +-- its stream is full, or a ---+
       +- start is next --> live           snapshot replaced the store

A watch changes its place only between two revisions, in one turn of the loop: so it misses
nothing and hears nothing twice.
"""

from __future__ import annotations

import asyncio
from collections import deque

from raftkv.errors import InvalidRequest, Overloaded, RaftkvError
from raftkv.kv.limits import Limits
from raftkv.rpc.v1 import api_pb2
from raftkv.server import failures
from raftkv.server.node_port import NodePort
from raftkv.server.watch.filter import interest_of
from raftkv.server.watch.groups import Watcher, ids_field
from raftkv.server.watch.stream import EncodedResponse, ResponseStream
from raftkv.server.watch.synced import SyncedWatchers
from raftkv.server.watch.unsynced import UnsyncedGroup, compacted
from raftkv.wire.failures import failure_of

CONFIRM_TIMEOUT_S = 2.0
OVERLOADED_RETRY_AFTER_S = 1.0


class WatchSession:
    """All watches of one stream. `run` reads their history; `close` ends them."""

    def __init__(
        self,
        node: NodePort,
        hub: SyncedWatchers,
        stream: ResponseStream,
        limits: Limits,
        watches_max: int,
        watches_per_stream_max: int,
    ) -> None:
        self.stream = stream
        self._node = node
        self._hub = hub
        self._limits = limits
        self._watches_max = watches_max
        self._watches_per_stream_max = watches_per_stream_max
        self._loop = asyncio.get_running_loop()
        # A request: its start is being found out.
        self._watches: dict[int, Watcher | api_pb2.WatchCreate] = {}
        self._cohort_of: dict[int, UnsyncedGroup] = {}  # of those that are not live
        self._cohorts: deque[UnsyncedGroup] = deque()
        self._cohorts_changed = asyncio.Event()
        # What waits for a word from the majority; the asking under way is for what came before.
        self._starting: dict[int, api_pb2.WatchCreate] = {}
        self._progress_wanted = False
        self._confirming = False
        self._closed = False
        hub.open(self)

    # ---- requests ------------------------------------------------------------------

    def handle(self, request: api_pb2.WatchRequest) -> None:
        """Do what is asked."""
        for create in request.creates:
            try:
                self._create(create)
            except RaftkvError as error:
                self._tell_ended([create.watch_id], error)
        for watch_id in request.cancels:
            self._cancel(watch_id)
        self._progress_wanted |= request.progress
        self._confirm()

    def _create(self, create: api_pb2.WatchCreate) -> None:
        watch_id = create.watch_id
        if watch_id in self._watches:
            raise InvalidRequest(
                f"watch_id {watch_id} is in use on this stream; choose another one",
                field="watch_id",
            )
        interest_of(create, self._limits)
        self._check_bound(
            "watches of this stream", len(self._watches), self._watches_per_stream_max
        )
        self._check_bound("watches of this node", self._hub.watches, self._watches_max)
        self._hub.watches += 1
        self._watches[watch_id] = create
        if create.start_revision:
            self._begin(create, create.start_revision)
        else:
            self._starting[watch_id] = create

    def _begin(self, create: api_pb2.WatchCreate, start: int) -> None:
        watch = Watcher(
            create.watch_id,
            self.stream,
            interest_of(create, self._limits),
            start,
            create.progress_notify,
        )
        self._watches[watch.watch_id] = watch
        present = self._hub.revision
        self._tell(
            [watch.watch_id], api_pb2.WatchNews(created=True, revision=min(start - 1, present))
        )
        self._place(watch, start)

    def _cancel(self, watch_id: int) -> None:
        if watch_id in self._watches:
            self._starting.pop(watch_id, None)
            self._remove(watch_id)

    def _remove(self, watch_id: int) -> None:
        watch = self._watches.pop(watch_id)
        self._hub.watches -= 1
        if isinstance(watch, Watcher):
            self._displace(watch)

    def close(self) -> None:
        """The stream is over."""
        self._closed = True
        for watch_id in list(self._watches):
            self._remove(watch_id)
        self._hub.close(self)

    # ---- confirmed by a majority -----------------------------------------------------

    def _confirm(self) -> None:
        """Have it confirmed that this node knows what is committed by now, for all who wait."""
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
            if self._watches.get(watch_id) is not create:
                continue  # cancelled meanwhile
            if error is None:
                self._begin(create, self._hub.revision + 1)
            else:
                self._remove(watch_id)
                self._tell_ended([watch_id], failures.of_read(error))
        if progress and error is None:
            self._tell((), api_pb2.WatchNews(revision=self._sent_revision()))
        self._confirm()

    def _sent_revision(self) -> int:
        """Up to here everything has been sent to all watches."""
        return min([self._hub.revision, *(cohort.position - 1 for cohort in self._cohorts)])

    def notify_progress(self) -> None:
        """Tell those live watches that asked for it how far they are."""
        ids = [
            watch.watch_id
            for watch in self._watches.values()
            if isinstance(watch, Watcher)
            and watch.progress_notify
            and watch.watch_id not in self._cohort_of
        ]
        if ids:
            self._tell(ids, api_pb2.WatchNews(revision=self._hub.revision))

    # ---- places --------------------------------------------------------------------

    def _place(self, watch: Watcher, start: int) -> None:
        """Where it belongs, if it is to hear from `start` on and has heard all before."""
        if start == self._hub.revision + 1:
            self._hub.join(watch)
        else:
            self._catch_up(watch, start)

    def _catch_up(self, watch: Watcher, start: int) -> None:
        cohort = next((each for each in self._cohorts if each.takes(start)), None)
        if cohort is None:
            cohort = UnsyncedGroup(start)
            self._cohorts.append(cohort)
        cohort.join(watch, start)
        self._cohort_of[watch.watch_id] = cohort
        self._cohorts_changed.set()

    def _displace(self, watch: Watcher) -> None:
        cohort = self._cohort_of.pop(watch.watch_id, None)
        if cohort is None:
            self._hub.leave(watch)
            return
        cohort.leave(watch)
        if not cohort.watches:
            self._cohorts.remove(cohort)

    def fall_behind(self, revision: int) -> None:
        """See `Client.fall_behind`."""
        for watch in self._watches.values():
            if isinstance(watch, Watcher) and watch.watch_id not in self._cohort_of:
                self._hub.leave(watch)
                self._catch_up(watch, revision)

    def wake(self) -> None:
        """See `Client.wake`."""
        self._cohorts_changed.set()

    # ---- history -------------------------------------------------------------------

    async def run(self) -> None:
        """Read history for those who need it, step by step. Raises `StorageError`."""
        while True:
            await self.stream.room()
            cohort = self._next_cohort()
            if cohort is None:
                await self._cohorts_changed.wait()
                continue
            async with self._hub.history_turn:
                self._drop_compacted(cohort)
                await cohort.step(self._node)
            if cohort.watches and cohort.position > self._hub.revision:
                self._go_live(cohort)
            await asyncio.sleep(0)

    def _next_cohort(self) -> UnsyncedGroup | None:
        """One with something to read, in turn; else see to it that we hear when there is one."""
        self._cohorts_changed.clear()
        present = self._hub.revision
        for _ in range(len(self._cohorts)):
            self._cohorts.rotate(-1)
            # One that is at the very end has nothing to read, but has yet to become live.
            if self._cohorts[0].position <= present + 1:
                return self._cohorts[0]
        positions = [cohort.position for cohort in self._cohorts]
        self._hub.wait(self, min(positions) - 1 if positions else None)
        return None

    def _drop_compacted(self, cohort: UnsyncedGroup) -> None:
        compacted_revision = self._node.machine.compacted_revision
        lost = cohort.drop_compacted(compacted_revision)
        for watch in lost:
            del self._watches[watch.watch_id]
            del self._cohort_of[watch.watch_id]
            self._hub.watches -= 1
            self._tell_ended([watch.watch_id], compacted(watch, compacted_revision))
        if lost and not cohort.watches:
            self._cohorts.remove(cohort)

    def _go_live(self, cohort: UnsyncedGroup) -> None:
        """The cohort has read everything there is: in this very turn of the loop."""
        self._cohorts.remove(cohort)
        revision = self._hub.revision
        live: list[int] = []
        for watch, start in cohort.watches.items():
            del self._cohort_of[watch.watch_id]
            self._place(watch, max(start, revision + 1))
            if watch.watch_id not in self._cohort_of:
                live.append(watch.watch_id)
        # No ids would mean all of the stream, and others may be in midst of their history.
        if live:
            self._tell(live, api_pb2.WatchNews(revision=revision))

    # ---- news ----------------------------------------------------------------------

    def _tell(self, ids: list[int] | tuple[()], news: api_pb2.WatchNews) -> None:
        self.stream.push(EncodedResponse(ids_field(ids), news.SerializeToString()))

    def _tell_ended(self, ids: list[int], error: RaftkvError) -> None:
        self._tell(ids, api_pb2.WatchNews(ended=failure_of(error)))

    def _check_bound(self, what: str, count: int, bound: int) -> None:
        if count >= bound:
            raise Overloaded(
                f"{what}: the bound of {bound} is reached; close some, or ask another node",
                retry_after_s=OVERLOADED_RETRY_AFTER_S,
                bound=bound,
            )

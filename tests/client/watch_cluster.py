"""Nodes in memory that serve watches with the production handlers, and a client on scripted links.

All nodes apply one log, each as far as the test lets it. Time is virtual.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc.aio

from raftkv.client.client import Client, connect
from raftkv.client.connection.link import WATCH
from raftkv.client.model.results import EventKind, WatchEvent
from raftkv.client.settings import ClientSettings
from raftkv.client.watch.watch import Watch
from raftkv.config import Settings
from raftkv.errors import ConnectionFailed, NoLeader, OutcomeUnknown, RaftkvError
from raftkv.kv.changes import Change
from raftkv.kv.machine import StateMachine
from raftkv.kv.records import VERSION_BYTES, unpack_version
from raftkv.kv.store import Family
from raftkv.logs import get_logger
from raftkv.node.change_feed import ChangeFeed
from raftkv.raft.entry import Entry
from raftkv.rpc.v1 import api_pb2
from raftkv.rpc.v1 import kv_pb2 as pb
from raftkv.server.admission import Admission
from raftkv.server.authorization import Authorizer
from raftkv.server.calls import header_of
from raftkv.server.watch.service import WatchService
from raftkv.storage.memory_state import MemoryStateStore
from tests.kv.harness import Listener, batch, entry

LATENCY_S = 0.001
EOF: Any = grpc.aio.EOF


class WatchCluster:
    """Three nodes, "a:1" leads. `write` commits; a node that is `behind` does not apply it."""

    def __init__(self, **settings: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.settings = Settings(**settings)
        self.log: list[Entry] = []
        self.history: list[Change] = []
        self.state = MemoryStateStore()
        self._witness = StateMachine(self.state, self.settings.limits)
        self._witness.set_change_listener(Listener(self.history.extend))
        self.nodes = {address: WatchedNode(self, address) for address in ("a:1", "b:2", "c:3")}
        self.opened: list[str] = []  # where watch streams were opened, in order

    async def connect(self, timeout: float = 5.0, **settings: float) -> Client:
        return await connect(
            list(self.nodes),
            timeout=timeout,
            settings=ClientSettings(**settings),  # type: ignore[arg-type]
            links=lambda address: Link(self.nodes[address]),
            rng=random.Random(7),
        )

    def write(self, *commands: pb.Command) -> int:
        """Commit commands in one entry; the revision after it."""
        each = entry(len(self.log) + 1, len(self.log), batch(*commands))
        self.log.append(each)
        self._witness.apply([each])
        for node in self.nodes.values():
            node.advance()
        return self._witness.revision

    @property
    def revision(self) -> int:
        return self._witness.revision

    def changes(self, wanted: Callable[[Change], bool] = lambda _: True) -> list[EventTuple]:
        """What a watch of these changes has to tell."""
        return [expected(change) for change in self.history if wanted(change)]

    def serving(self) -> WatchedNode:
        """The node that the client watches at."""
        (node,) = [node for node in self.nodes.values() if node.streams]
        return node


EventTuple = tuple[int, bytes, bytes | None, bool]
"""Revision, key, value (None: deleted), created."""


def expected(change: Change) -> EventTuple:
    value = None if change.record is None else change.record[VERSION_BYTES:]
    created = change.record is not None and unpack_version(change.record)[0] == change.revision
    return change.revision, change.key, value, created


def delivered(event: WatchEvent) -> EventTuple:
    value = event.value if event.kind is EventKind.PUT else None
    return event.revision, event.key, value, event.created


async def take(watch: Watch, count: int) -> list[WatchEvent]:
    async with asyncio.timeout(60):
        return [await anext(watch) for _ in range(count)]


class WatchedNode:
    """What the watch service needs of a node."""

    def __init__(self, cluster: WatchCluster, address: str) -> None:
        self.cluster = cluster
        self.address = address
        self.node_id = ord(address[0]) - ord("a") + 1
        self.cluster_id = 7
        self.incarnation = 70
        self.term = 1
        self.up = True
        self.behind = False
        self.cut_off = False  # from the other nodes, not from clients
        self._mute = False
        self.streams: list[Stream] = []
        self.broken: list[BaseException] = []
        self._start()

    def _start(self) -> None:
        self.store = MemoryStateStore()
        self.machine = StateMachine(self.store, self.cluster.settings.limits)
        self.changes = ChangeFeed(self.machine)
        self.admission = Admission(requests_max=9, requests_per_client_max=9, bytes_max=9)
        self.service = WatchService(
            self,  # type: ignore[arg-type]
            Authorizer(self, self.cluster.settings, get_logger()),  # type: ignore[arg-type]
            self.admission,
            self.cluster.settings,
            self.broken.append,
        )
        self.advance()

    @property
    def mute(self) -> bool:
        """Its messages wait on their way, as those of a paused process do."""
        return self._mute

    @mute.setter
    def mute(self, mute: bool) -> None:
        self._mute = mute
        if not mute:
            for stream in self.streams:
                stream.arrive()

    def advance(self) -> None:
        """Apply what is committed, in one run."""
        if not (self.behind or self.cut_off):
            self.machine.apply(self.cluster.log[self.machine.applied_index :])

    def install_snapshot(self) -> None:
        """A state that includes all that is committed takes the place of this node's."""
        self.behind = False
        self.store = MemoryStateStore()
        state = self.cluster.state
        self.store.write({family: dict(state.scan(family, b"", None)) for family in Family})
        self.machine = StateMachine(self.store, self.cluster.settings.limits)
        self.changes.replace(self.machine)

    def crash(self) -> None:
        """It is gone, with its streams."""
        self.up = False
        for stream in list(self.streams):
            stream.break_off()

    def restart(self) -> None:
        self.up = True
        self._start()

    def pin_history(self, revision: int) -> None: ...

    def read_barrier(self, deadline: float) -> asyncio.Future[None]:
        barrier: asyncio.Future[None] = self.cluster.loop.create_future()
        wanted = len(self.cluster.log)

        def look() -> None:
            if barrier.done():
                return
            if not self.cut_off and self.machine.applied_index >= wanted:
                barrier.set_result(None)
            elif self.cluster.loop.time() >= deadline:
                barrier.set_exception(NoLeader("no majority answers"))
            else:
                self.cluster.loop.call_later(0.01, look)

        self.cluster.loop.call_later(LATENCY_S, look)
        return barrier

    def status(self) -> bytes:
        leads = self.address == "a:1"
        return api_pb2.StatusReply(
            header=header_of(self),  # type: ignore[arg-type]
            role=api_pb2.ROLE_LEADER if leads else api_pb2.ROLE_FOLLOWER,
        ).SerializeToString()


class Link:
    """The client's link to a node."""

    def __init__(self, node: WatchedNode) -> None:
        self._node = node

    def open(
        self,
        on_message: Callable[[bytes], None],
        on_end: Callable[[RaftkvError], None],
        method: str = "",
        token: str = "",
    ) -> Stream:
        assert method == WATCH
        return Stream(self._node, on_message, on_end)

    async def call(self, method: str, request: bytes, timeout_s: float, token: str = "") -> bytes:
        await asyncio.sleep(LATENCY_S)
        if not self._node.up:
            raise ConnectionFailed("refused")
        return self._node.status()

    async def close(self) -> None:
        pass


class Stream:
    """Both ends of a watch stream: a client's `Stream`, a server's context."""

    def __init__(
        self,
        node: WatchedNode,
        on_message: Callable[[bytes], None],
        on_end: Callable[[RaftkvError], None],
    ) -> None:
        self._node = node
        self._loop = node.cluster.loop
        self._on_message = on_message
        self._on_end = on_end
        self._incoming: asyncio.Queue[Any] = asyncio.Queue()
        # Timers of the same moment ring in any order, messages must not.
        self._there: deque[bytes] = deque()
        self._back: deque[bytes] = deque()
        self._open = True
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.replies: list[api_pb2.WatchReply] = []
        node.cluster.opened.append(node.address)
        if node.up:
            node.streams.append(self)
            self._serving = self._loop.create_task(self._serve())
        else:
            self._loop.call_later(LATENCY_S, self._end, ConnectionFailed("refused"))

    def peer(self) -> str:
        return "client"

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def auth_context(self) -> dict[str, Any]:
        return {}

    async def _serve(self) -> None:
        try:
            await self._node.service.open(None, self)  # type: ignore[arg-type]
        except Aborted:
            pass
        finally:
            if self in self._node.streams:
                self._node.streams.remove(self)
            self._loop.call_later(LATENCY_S, self._end, OutcomeUnknown("the stream has ended"))

    # ---- the client's end

    def send(self, message: bytes) -> None:
        self._there.append(message)
        self._loop.call_later(LATENCY_S, lambda: self._incoming.put_nowait(self._there.popleft()))

    def close(self) -> None:
        self._open = False
        if self in self._node.streams:
            self._node.streams.remove(self)
            self._serving.cancel()

    def break_off(self) -> None:
        """The connection is reset: what is on its way is lost."""
        self._node.streams.remove(self)
        self._serving.cancel()
        self._end(OutcomeUnknown("connection reset"))

    def _end(self, error: RaftkvError) -> None:
        if self._open:
            self._open = False
            self._on_end(error)

    def arrive(self, count: int = 1 << 30) -> None:
        """Deliver what is on its way."""
        while count and self._back and not self._node.mute:
            count -= 1
            message = self._back.popleft()
            if self._open:
                self._on_message(message)

    # ---- the server's end

    async def read(self) -> Any:
        return await self._incoming.get()

    async def write(self, message: bytes) -> None:
        await self.may_write.wait()
        self.replies.append(api_pb2.WatchReply.FromString(message))
        self._back.append(message)
        self._loop.call_later(LATENCY_S, self.arrive, 1)

    async def abort(self, *_: object) -> None:
        raise Aborted


class Aborted(Exception):
    """What a gRPC context raises at the end of a call."""

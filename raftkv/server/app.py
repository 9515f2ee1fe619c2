"""One node, whole: its directory, stores, state machine, peers and front door, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from random import Random

from raftkv.config import Settings
from raftkv.errors import DamagedData, RaftkvError
from raftkv.logs import CLOCK, get_logger
from raftkv.node.driver import NodeConfig
from raftkv.node.node import Node
from raftkv.raft.entry import Membership
from raftkv.raft.ready import RaftConfig
from raftkv.server.first_start import require_first_start
from raftkv.server.front_door import FrontDoor
from raftkv.server.joining import learn_cluster_id
from raftkv.server.resources import version
from raftkv.storage.directory import DataDirectory, open_directory, read_identity
from raftkv.storage.log_store import RocksLogStore
from raftkv.storage.state_storage import RocksStateStorage
from raftkv.transport.codec import decode_frame
from raftkv.transport.handshake import Identity
from raftkv.transport.links import GrpcPeerLinks
from raftkv.transport.ports import Frame
from raftkv.transport.server import PeerServer
from raftkv.transport.tracing import MessageTrace, TracedPeerLinks

# What clients had under way when a stop was asked for is given this long to finish, ...
DRAIN_GRACE_S = 2.0
# ... and their streams this long to carry the last replies.
CLOSE_GRACE_S = 1.0


class Server:
    """A node's life from its settings to its end. One per event loop and process.

    `client_port` and `peer_port` are known once it has started.
    """

    def __init__(self, settings: Settings, rng: Random | None = None) -> None:
        self._settings = settings
        self._rng = rng or Random()
        self._log = get_logger(node=settings.node_id)
        self._opened = AsyncExitStack()
        self._stopped: asyncio.Future[BaseException | None]
        self._node: Node
        self._links: GrpcPeerLinks
        self._front_door: FrontDoor
        self.client_port = 0
        self.peer_port = 0

    async def start(self) -> None:
        """Recover what is on disk and take part in the cluster.

        Raises `AddressInUse`, `ConfigurationError`, `StorageError` and its children, or
        `Unavailable` if the cluster to join can't be asked; nothing is left open then.
        """
        self._stopped = asyncio.get_running_loop().create_future()
        try:
            await self._start()
        except BaseException:
            await self._opened.aclose()
            raise
        self._log.info(
            "server_started",
            version=version(),
            cluster=f"{self._node.cluster_id:016x}",
            client_listen=self._settings.client_listen,
            peer_listen=self._settings.peer_listen,
            data_dir=str(self._settings.data_dir),
        )

    async def wait_stopped(self) -> BaseException | None:
        """Wait until the node stops: by itself, then with the reason, or because of `stop`."""
        return await asyncio.shield(self._stopped)

    async def stop(self) -> None:
        """Finish what is under way, give leadership away, answer, close everything."""
        self._log.info("server_stopping")
        self._links.leave()
        await self._front_door.drain(DRAIN_GRACE_S)
        await self._node.stop()
        await self._opened.aclose()
        self._halt(None)
        self._log.info("server_stopped")

    def _halt(self, reason: BaseException | None) -> None:
        if not self._stopped.done():
            self._stopped.set_result(reason)

    def _broken(self, error: BaseException) -> None:
        """A client's call has met what the node can't go on with; of damage it says itself when."""
        if isinstance(error, DamagedData):
            self._node.driver.broken(error)
        else:
            self._halt(error)

    async def _start(self) -> None:
        settings = self._settings
        directory = await self._open_directory()
        log_store = RocksLogStore(directory.log_path)
        self._opened.push_async_callback(self._close, "log", log_store.close)
        state_storage = RocksStateStorage(directory.state_path)
        self._opened.push_async_callback(self._close, "state", state_storage.close)
        files = ThreadPoolExecutor(max_workers=2, thread_name_prefix="raftkv-files")
        self._opened.callback(files.shutdown, wait=False, cancel_futures=True)

        identity = Identity(
            directory.identity.cluster_id, settings.node_id, settings.peer_advertise
        )
        links, decode = self._peer_links(identity, files)
        self._links = links
        self._opened.push_async_callback(links.close)
        node = self._node = Node(
            settings.node_id,
            identity.cluster_id,
            _node_config(settings),
            log_store,
            state_storage,
            links,
            self._rng,
            _initial_membership(settings),
            partial(require_first_start, settings),
        )
        await node.start()
        self._opened.push_async_callback(node.stop)
        node.stopped.add_done_callback(lambda stopped: self._halt(stopped.result()))

        peers = PeerServer(identity, node.driver, links.contacted, files, CLOCK, decode=decode)
        self.peer_port = await peers.start(settings.peer_listen)
        self._opened.push_async_callback(peers.stop)
        self._front_door = FrontDoor(node, settings, self._log, self._broken)
        self.client_port = await self._front_door.start(settings.client_listen)
        self._opened.push_async_callback(self._front_door.stop, CLOSE_GRACE_S)

    def _peer_links(
        self, identity: Identity, files: Executor
    ) -> tuple[GrpcPeerLinks, Callable[[bytes, int, int], Frame]]:
        """The links, and what reads the frames of others' links."""
        settings = self._settings
        if not settings.trace_messages:
            return GrpcPeerLinks(identity, self._rng, files, CLOCK), decode_frame
        path = Path(settings.trace_messages)
        trace = MessageTrace(identity.node_id, path, settings.trace_messages_bytes_max)
        self._opened.callback(trace.close)
        return TracedPeerLinks(identity, self._rng, files, CLOCK, trace), trace.decode

    async def _open_directory(self) -> DataDirectory:
        settings = self._settings
        cluster_id = settings.cluster_id
        if settings.join:
            # Asked once: from then on the directory says which cluster it belongs to.
            known = read_identity(settings.data_dir)
            cluster_id = known.cluster_id if known else await learn_cluster_id(settings)
        directory = open_directory(settings.data_dir, cluster_id, settings.node_id)
        self._opened.callback(directory.close)
        return directory

    async def _close(self, store: str, close: Callable[[], Awaitable[None]]) -> None:
        try:
            await close()
        except RaftkvError as error:
            # The node's promises rest with the majority; a disk that failed it may fail here too.
            self._log.warning("store_not_closed", store=store, reason=error.message)


def _initial_membership(settings: Settings) -> Membership | None:
    if settings.join:
        return None
    return Membership(
        voters=frozenset(settings.initial_members), addresses=settings.initial_members
    )


def _node_config(settings: Settings) -> NodeConfig:
    return NodeConfig(
        raft=RaftConfig(
            heartbeat_ticks=settings.heartbeat_ticks,
            election_ticks_min=settings.election_ticks_min,
            election_ticks_max=settings.election_ticks_max,
            leader_lease=settings.leader_lease,
        ),
        tick_s=settings.tick_ms / 1000,
        limits=settings.limits,
        submissions_in_flight_max=settings.submissions_in_flight_max,
        uncommitted_bytes_max=settings.uncommitted_bytes_max,
        log_retained_bytes=settings.log_retained_bytes,
        log_compaction_bytes=settings.log_compaction_bytes,
    )

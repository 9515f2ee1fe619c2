"""One node, whole: its directory, stores, state machine, peers and front door, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

from raftkv.config import Settings
from raftkv.errors import DamagedData, NoLeader, NotLeader, OutOfService, RaftkvError
from raftkv.logs import CLOCK, get_logger
from raftkv.node.config import NodeConfig, NodeStores
from raftkv.node.founder import Founder
from raftkv.node.node import Node
from raftkv.peer.codec import decode_frame
from raftkv.peer.founders import ask_founder
from raftkv.peer.handshake import HandshakeRefused, PeerIdentity, Refusal
from raftkv.peer.links import GrpcPeerLinks
from raftkv.peer.ports import Founding, Frame
from raftkv.peer.secret import ClusterSecret, read_secret
from raftkv.peer.server import PeerServer
from raftkv.peer.tracing import MessageTrace, TracedPeerLinks
from raftkv.raft.ready import RaftConfig
from raftkv.server import resources
from raftkv.server.bootstrap import identity_to_join, join
from raftkv.server.disk_space import DiskSpace
from raftkv.server.grpc_server import ClientServer
from raftkv.server.resources import version
from raftkv.server.standby import StandbyServer
from raftkv.storage.directory import DataDirectory, open_directory, read_identity
from raftkv.storage.identity import DirectoryIdentity, Stage
from raftkv.storage.log_store import RocksLogStore
from raftkv.storage.state_storage import RocksStateStorage

# What clients had under way when a stop was asked for is given this long to finish, ...
DRAIN_GRACE_S = 2.0
# ... and their streams this long to carry the last replies.
CLOSE_GRACE_S = 1.0
# For so long a leader without disk space tries to give leadership away.
GIVE_WAY_S_MAX = 5.0


class NodeProcess:
    """A node's life from its settings to its end. One per event loop and process.

    `client_port` and `peer_port` are known once it has started.
    """

    def __init__(self, settings: Settings, rng: Random | None = None) -> None:
        self._settings = settings
        self._rng = rng or Random()
        self._log = get_logger(node=settings.node_id)
        self._opened = AsyncExitStack()
        self._stopped: asyncio.Future[BaseException | None]
        self._standing_by = False
        self._stopping = False
        self._leaving: asyncio.Task[None] | None = None
        self._descriptors: resources.Descriptors
        self._node: Node
        self._links: GrpcPeerLinks
        self._front_door: ClientServer
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
        if self._standing_by:
            return
        self._log.info(
            "server_started",
            version=version(),
            cluster=f"{self._node.cluster_id:016x}",
            incarnation=f"{self._node.incarnation:016x}",
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
        self._stopping = True
        if self._leaving is not None:
            await asyncio.wait({self._leaving})
        if not self._standing_by:
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
            self._node.fail(error)
        else:
            self._halt(error)

    async def _start(self) -> None:
        settings = self._settings
        self._descriptors = resources.divide(resources.limit())
        secret = read_secret(settings.cluster_secret_file)
        directory = open_directory(
            settings.data_dir,
            settings.cluster_name,
            settings.node_id,
            self._rng.getrandbits(64) or 1,
            reserve_bytes=settings.disk_reserve_bytes,
        )
        self._opened.callback(directory.close)
        identity = directory.load()
        if identity is not None and identity.out_of_service:
            await self._stand_by(identity)
            return
        if identity is None or (identity.stage is Stage.FOUNDING and not identity.incarnation):
            identity = await self._new_identity(directory, identity)
        files = ThreadPoolExecutor(max_workers=2, thread_name_prefix="raftkv-files")
        self._opened.callback(files.shutdown, wait=False, cancel_futures=True)
        founder = Founder(
            directory,
            identity,
            settings.initial_members,
            settings.bootstrap_without_ids,
            self._rng,
        )
        links, decode = self._peer_links(self._peer_identity(identity), secret, files)
        absent = HandshakeRefused(Refusal.NOT_READY, f"node {settings.node_id} has not started yet")
        peers = PeerServer(
            self._peer_identity(identity),
            secret,
            founder,
            files,
            CLOCK,
            absent,
            decode=decode,
            connections_max=self._descriptors.peer_connections,
        )
        self._opened.push_async_callback(peers.stop)
        self.peer_port = await peers.start(settings.peer_listen)
        if identity.stage is Stage.FOUNDING and not directory.has_log:
            identity = await self._found(founder, secret)
        elif identity.stage is Stage.JOINING and not directory.has_log:
            await join(settings, identity)
        await self._start_node(directory, identity, founder, links, secret, peers)

    async def _start_node(
        self,
        directory: DataDirectory,
        identity: DirectoryIdentity,
        founder: Founder,
        links: GrpcPeerLinks,
        secret: ClusterSecret,
        peers: PeerServer,
    ) -> None:
        settings = self._settings
        shares = self._descriptors
        log_store = RocksLogStore(directory.log_path, open_tables_max=shares.log_tables)
        self._opened.push_async_callback(self._close, "log", log_store.close)
        state_storage = RocksStateStorage(directory.state_path, open_tables_max=shares.state_tables)
        self._opened.push_async_callback(self._close, "state", state_storage.close)
        self._links = links
        links.belong_to(self._peer_identity(identity))
        self._opened.push_async_callback(links.close)
        node = self._node = Node(
            identity,
            settings.advertised,
            _node_config(settings),
            NodeStores(directory, log_store, state_storage),
            links,
            self._rng,
        )
        await node.start()
        self._opened.push_async_callback(node.stop)
        node.stopped.add_done_callback(lambda stopped: self._node_stopped(stopped.result()))
        founder.started(node.identity, lambda: node.membership)
        peers.admit_peers(self._peer_identity(identity), node.peer_handler, links.contacted)
        space = DiskSpace(directory.reserve, self._log)
        await space.look()
        self._front_door = ClientServer(
            node,
            settings,
            self._log,
            self._broken,
            require_room=space.require_room,
            connections_max=shares.client_connections,
        )
        self._opened.push_async_callback(self._front_door.stop, CLOSE_GRACE_S)
        self.client_port = await self._front_door.start(settings.client_listen)
        watching = asyncio.get_running_loop().create_task(space.watch(self._give_way))
        self._opened.callback(watching.cancel)

    async def _give_way(self) -> bool:
        """Have another node lead, if one can; whether this one did."""
        deadline = asyncio.get_running_loop().time() + GIVE_WAY_S_MAX
        try:
            await self._node.transfer_leader(0, deadline)
        except (NoLeader, NotLeader):
            return False
        except RaftkvError as error:
            self._log.warning("leadership_kept", reason=error.message)
        return True

    async def _new_identity(
        self, directory: DataDirectory, before: DirectoryIdentity | None
    ) -> DirectoryIdentity:
        """What a directory becomes in which nothing is decided yet: that of a founder, or of a node
        that joins. A founder that was there `before` has said its disk's id.
        """
        settings = self._settings
        disk_id = before.disk_id if before is not None else self._rng.getrandbits(64) or 1
        if settings.join:
            identity = await identity_to_join(settings, disk_id)
        else:
            settings.require_founder()
            identity = DirectoryIdentity(
                settings.cluster_id, settings.node_id, disk_id, settings.cluster_name
            )
        if identity != before:
            # Before anybody learns of the disk's id: it must stay the same.
            directory.save(identity)
        return identity

    async def _found(self, founder: Founder, secret: ClusterSecret) -> DirectoryIdentity:
        """Wait until the cluster is founded; the client port says for whom."""
        settings = self._settings

        def reason() -> str:
            missing = "; ".join(
                f"node {id}: {why}" for id, why in sorted(founder.waiting_for.items())
            )
            return f"it waits until all first nodes of the cluster answer ({missing or 'asking'})"

        async def ask(to: int, said: Founding) -> Founding:
            own = self._peer_identity(founder.identity)
            return await ask_founder(own, secret, to, founder.founders[to].peer, said)

        door = StandbyServer(
            founder.identity, reason, connections_max=self._descriptors.client_connections
        )
        try:
            self.client_port = await door.start(settings.client_listen)
            return await founder.found(ask)
        finally:
            await door.stop()

    async def _stand_by(self, identity: DirectoryIdentity) -> None:
        """Take no part, and say why to all who ask."""
        self._log.error("out_of_service", message=identity.out_of_service)
        door = StandbyServer(
            identity,
            lambda: f"it is out of service: {identity.out_of_service}",
            connections_max=self._descriptors.client_connections,
        )
        self._opened.push_async_callback(door.stop)
        self.client_port = await door.start(self._settings.client_listen)
        self._standing_by = True

    def _node_stopped(self, reason: BaseException | None) -> None:
        if isinstance(reason, OutOfService) and not self._stopping:
            self._leaving = asyncio.get_running_loop().create_task(self._leave_service(reason))
            self._leaving.add_done_callback(self._left_service)
        else:
            self._halt(reason)

    async def _leave_service(self, reason: OutOfService) -> None:
        """The node has stopped for good; the process stays, to say why."""
        self._links.leave()
        await self._opened.aclose()
        identity = read_identity(self._settings.data_dir)
        if identity is None or not identity.out_of_service:
            self._halt(reason)  # it can't be written down, so the process must not go on
        else:
            await self._start()

    def _left_service(self, leaving: asyncio.Task[None]) -> None:
        error = None if leaving.cancelled() else leaving.exception()
        if error is not None:
            self._halt(error)  # a process that can't even say why must not stay

    def _peer_identity(self, identity: DirectoryIdentity) -> PeerIdentity:
        return PeerIdentity(
            identity.cluster_id,
            identity.incarnation,
            identity.node_id,
            self._settings.advertised,
            identity.disk_id,
        )

    def _peer_links(
        self, identity: PeerIdentity, secret: ClusterSecret, files: Executor
    ) -> tuple[GrpcPeerLinks, Callable[[bytes, int, int], Frame]]:
        """The links, and what reads the frames of others' links."""
        settings = self._settings
        hints = {id: at.peer for id, at in settings.initial_members.items()}
        if not settings.trace_messages:
            return GrpcPeerLinks(identity, secret, self._rng, files, CLOCK, hints), decode_frame
        path = Path(settings.trace_messages)
        trace = MessageTrace(identity.node_id, path, settings.trace_messages_bytes_max)
        self._opened.callback(trace.close)
        links = TracedPeerLinks(identity, secret, self._rng, files, CLOCK, hints, trace=trace)
        return links, trace.decode

    async def _close(self, store: str, close: Callable[[], Awaitable[None]]) -> None:
        try:
            await close()
        except RaftkvError as error:
            # The node's promises rest with the majority; a disk that failed it may fail here too.
            self._log.warning("store_not_closed", store=store, reason=error.message)


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

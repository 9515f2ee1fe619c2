"""One node from its settings to its end: composes directory, stores, Raft, peers and clients."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from random import Random, SystemRandom

from raftkv.config import Settings
from raftkv.errors import DamagedData, NoLeader, NotLeader, OutOfService, RaftkvError
from raftkv.logs import get_logger, write_at_any_level
from raftkv.node.config import NodeConfig, NodeStores
from raftkv.node.node import Node
from raftkv.peer.secret import read_secret
from raftkv.raft.ready import RaftConfig
from raftkv.server import bootstrap, resources
from raftkv.server.audit import Audit
from raftkv.server.diagnosis import dump_tasks
from raftkv.server.disk_space import DiskSpace
from raftkv.server.grpc_server import ClientServer
from raftkv.server.observability.publisher import Publisher, ServingNode
from raftkv.server.peer_network import PeerNetwork
from raftkv.server.reload import ReloadSettings, SettingsReload, no_sources
from raftkv.server.root_reset import RootReset
from raftkv.server.security import NodeSecurity
from raftkv.server.standby import StandbyServer
from raftkv.storage.directory import DataDirectory, open_directory, read_identity
from raftkv.storage.identity import DirectoryIdentity, Stage
from raftkv.storage.log_store import RocksLogStore
from raftkv.storage.state_storage import RocksStateStorage

# After a stop was requested, requests in flight have this long to finish, ...
DRAIN_GRACE_S = 2.0
# ... and their streams have this long to carry the last replies.
CLOSE_GRACE_S = 1.0
# How long a leader without disk space tries to transfer leadership.
TRANSFER_S_MAX = 5.0


class NodeProcess:
    """A node's life from its settings to its end. One per event loop and process.

    Start-up order (`_start`), closed in reverse by `stop` or when a step fails:

    1. Divide the file descriptors; read the secret and the certificates (`NodeSecurity`); lock the
       data directory and read its identity. Open the HTTP port, if it is on.
    2. Out of service: open the client port as a `StandbyServer`, and start nothing else.
    3. First start: decide the identity (`bootstrap.new_identity`).
    4. Open the peer port, which answers founders (`PeerNetwork`).
    5. First start: found the cluster or join it.
    6. Open the log and the state, recover the node, and admit peers.
    7. Open the client port (`ClientServer`).
    8. Check the disk's space periodically (`DiskSpace`).

    After step 6 a reset of root is proposed, if its operator has left one (`RootReset`).

    `client_port` and `peer_port` are known after the start. `read_settings` reads the sources of
    the settings again, on a thread.
    """

    def __init__(
        self,
        settings: Settings,
        rng: Random | None = None,
        *,
        read_settings: Callable[[], Settings] | None = None,
    ) -> None:
        self._settings = settings
        # The node draws secrets from it.
        self._rng = rng or SystemRandom()
        self._log = get_logger(node=settings.node_id)
        self.reload_settings: ReloadSettings = no_sources
        if read_settings is not None:
            self.reload_settings = SettingsReload(
                settings, read_settings, self._apply_settings, self._log
            ).reload
        self._describe: Callable[[], str] = _starting
        self._opened = AsyncExitStack()
        self._stopped: asyncio.Future[BaseException | None]
        self._in_standby = False
        self._stopping = False
        self._entering_standby: asyncio.Task[None] | None = None
        self._descriptors: resources.Descriptors
        self._security: NodeSecurity
        self._node: Node
        self._peers: PeerNetwork
        self._publisher: Publisher
        self._log_store: RocksLogStore
        self._client_server: ClientServer | None = None
        self.client_port = 0
        self.peer_port = 0

    # ---- start, wait, stop -------------------------------------------------------------

    async def start(self) -> None:
        """Recover from the disk and take part in the cluster.

        Raises `AddressInUse`, `ConfigurationError`, `StorageError` and its children, or
        `Unavailable` if the cluster to join does not answer. After an error nothing is left open.
        """
        self._stopped = asyncio.get_running_loop().create_future()
        try:
            await self._start()
        except BaseException:
            await self._opened.aclose()
            raise
        if self._in_standby:
            return
        self._log.info(
            "server_started",
            version=resources.version(),
            cluster=f"{self._node.cluster_id:016x}",
            incarnation=f"{self._node.incarnation:016x}",
            client_listen=self._settings.client_listen,
            peer_listen=self._settings.peer_listen,
            data_dir=str(self._settings.data_dir),
        )

    async def wait_stopped(self) -> BaseException | None:
        """Wait until the node stops; returns the reason, or None after `stop`."""
        return await asyncio.shield(self._stopped)

    async def stop(self) -> None:
        """Finish requests in flight, transfer leadership, then close everything."""
        self._log.info("server_stopping")
        self._stopping = True
        if self._entering_standby is not None:
            await asyncio.wait({self._entering_standby})
        if not self._in_standby:
            self._peers.links.leave()
            if self._client_server is not None:
                await self._client_server.drain(DRAIN_GRACE_S)
            await self._node.stop()
        await self._opened.aclose()
        self._set_stopped(None)
        self._log.info("server_stopped")

    def _set_stopped(self, reason: BaseException | None) -> None:
        if not self._stopped.done():
            self._stopped.set_result(reason)

    # ---- what it reports, and what can change ---------------------------------------------

    def describe(self) -> str:
        """What the node does, in one line, for people."""
        return self._describe()

    def _describe_node(self) -> str:
        state = self._node.status()
        leader = f"node {state.leader_id}" if state.leader_id else "none"
        missing = state.not_serving or state.notice
        role = state.role.name.lower()
        return f"node {state.node_id}, {role}, leader: {leader}, term {state.term}" + (
            f"; {missing}" if missing else ""
        )

    def dump(self) -> None:
        """Write the tasks of the event loop and the lengths of the queues to the log."""
        dump_tasks(self._log)
        queues: dict[str, object] = {}
        if self._client_server is not None:
            queues |= self._client_server.queues()
            queues |= self._node.queues()
            queues["link_bytes"] = self._peers.links.queued_bytes()
        write_at_any_level(self._log, "info", "queues", doing=self.describe(), **queues)

    def _apply_settings(self, settings: Settings) -> None:
        self._settings = settings
        if self._client_server is not None:
            self._client_server.apply(settings)

    # ---- the steps of the start ---------------------------------------------------------

    async def _start(self) -> None:
        self._describe = _starting  # again, if the node that ran before has left service
        settings = self._settings
        self._descriptors = resources.divide(resources.limit())
        secret = read_secret(settings.cluster_secret_file)
        security = self._security = NodeSecurity.of_settings(settings)
        watching = asyncio.get_running_loop().create_task(security.watch(self._log))
        self._opened.callback(watching.cancel)
        directory = open_directory(
            settings.data_dir,
            settings.cluster_name,
            settings.node_id,
            self._rng.getrandbits(64) or 1,
            reserve_bytes=settings.disk_reserve_bytes,
        )
        self._opened.callback(directory.close)
        self._open_http_port()
        identity = directory.load()
        if identity is not None and identity.out_of_service:
            await self._stand_by(identity)
            return
        if identity is None or (identity.stage is Stage.FOUNDING and not identity.incarnation):
            identity = await bootstrap.new_identity(
                settings, security, directory, identity, self._rng
            )
        peers = self._peers = PeerNetwork(
            settings,
            directory,
            identity,
            secret,
            security.peer,
            self._rng,
            self._descriptors.peer_connections,
        )
        self._opened.push_async_callback(peers.stop)
        self.peer_port = await peers.start(settings.peer_listen)
        if identity.stage is Stage.FOUNDING and not directory.has_log:
            identity = await self._found(peers)
        elif identity.stage is Stage.JOINING and not directory.has_log:
            self._describe = lambda: "it joins the cluster"
            await bootstrap.join(settings, security, identity)
        self._describe = lambda: "it recovers from its disk"
        await self._start_node(directory, identity)
        await self._open_client_port(directory)

    def _open_http_port(self) -> None:
        publisher = self._publisher = Publisher(self._security, self._log, self.describe)
        if not self._settings.has_http_port:
            return
        # Imported here: it takes 70 ms, which a node without this port need not spend.
        from raftkv.server.observability.http_port import open_http_port

        http = open_http_port(self._settings, self._security, publisher.published, self._log)
        self._opened.callback(http.stop)
        publishing = asyncio.get_running_loop().create_task(publisher.run())
        self._opened.callback(publishing.cancel)

    async def _stand_by(self, identity: DirectoryIdentity) -> None:
        """Open only the client port, to report why the node is out of service."""
        self._log.error("out_of_service", message=identity.out_of_service)
        self._client_server = None
        self._describe = lambda: f"it is out of service: {identity.out_of_service}"
        standby = StandbyServer(
            identity,
            self._describe,
            descriptors_max=self._descriptors.client_connections,
            tls=self._security.client,
        )
        self._opened.push_async_callback(standby.stop)
        self.client_port = await standby.start(self._settings.client_listen)
        self._in_standby = True

    async def _found(self, peers: PeerNetwork) -> DirectoryIdentity:
        """Wait until the cluster is founded; the client port reports the missing founders."""
        founder = peers.founder
        self._describe = lambda: bootstrap.reason_of_wait(founder)
        standby = StandbyServer(
            founder.identity,
            self._describe,
            descriptors_max=self._descriptors.client_connections,
            tls=self._security.client,
        )
        try:
            self.client_port = await standby.start(self._settings.client_listen)
            return await founder.found(peers.ask_founder)
        finally:
            await standby.stop()

    async def _start_node(self, directory: DataDirectory, identity: DirectoryIdentity) -> None:
        settings, shares, peers = self._settings, self._descriptors, self._peers
        log_store = self._log_store = RocksLogStore(
            directory.log_path, open_tables_max=shares.log_tables
        )
        self._opened.push_async_callback(self._close, "log", log_store.close)
        state_storage = RocksStateStorage(directory.state_path, open_tables_max=shares.state_tables)
        self._opened.push_async_callback(self._close, "state", state_storage.close)
        peers.set_identity(identity)
        self._opened.push_async_callback(peers.links.close)
        node = self._node = Node(
            identity,
            settings.advertised,
            _node_config(settings),
            NodeStores(directory, log_store, state_storage),
            peers.links,
            self._rng,
        )
        await node.start()
        self._opened.push_async_callback(node.stop)
        node.stopped.add_done_callback(lambda stopped: self._node_stopped(stopped.result()))
        peers.admit_peers(node, identity)
        self._reset_root(node)

    def _reset_root(self, node: Node) -> None:
        loop, log = asyncio.get_running_loop(), self._log
        reset = RootReset(node, self._settings.data_dir, Audit(log, loop.time), log)
        resetting = loop.create_task(reset.run())
        self._opened.callback(resetting.cancel)

    async def _open_client_port(self, directory: DataDirectory) -> None:
        space = DiskSpace(directory.reserve, self._log)
        await space.check()
        server = self._client_server = ClientServer(
            self._node,
            self._settings,
            self._log,
            self._on_broken,
            require_room=space.require_room,
            descriptors_max=self._descriptors.client_connections,
            tls=self._security.client,
        )
        server.offer_reload(self.reload_settings)
        self._opened.push_async_callback(server.stop, CLOSE_GRACE_S)
        self.client_port = await server.start(self._settings.client_listen)
        self._describe = self._describe_node
        self._publisher.serving = ServingNode(self._node, self._log_store, space, server)
        checking = asyncio.get_running_loop().create_task(space.watch(self._transfer_leadership))
        self._opened.callback(checking.cancel)

    async def _close(self, store: str, close: Callable[[], Awaitable[None]]) -> None:
        try:
            await close()
        except RaftkvError as error:
            # Acknowledged writes are on a majority; a disk that failed before may fail here too.
            self._log.warning("store_not_closed", store=store, reason=error.message)

    # ---- what happens to a running node --------------------------------------------------

    def _on_broken(self, error: BaseException) -> None:
        """A request has met damaged data or a broken invariant. After damage, the driver takes the
        node out of service.
        """
        if isinstance(error, DamagedData):
            self._node.fail(error)
        else:
            self._set_stopped(error)

    async def _transfer_leadership(self) -> bool:
        """Try to make another node the leader; False if this node is not the leader."""
        deadline = asyncio.get_running_loop().time() + TRANSFER_S_MAX
        try:
            await self._node.transfer_leader(0, deadline)
        except (NoLeader, NotLeader):
            return False
        except RaftkvError as error:
            self._log.warning("leadership_kept", reason=error.message)
        return True

    def _node_stopped(self, reason: BaseException | None) -> None:
        if isinstance(reason, OutOfService) and not self._stopping:
            self._entering_standby = asyncio.get_running_loop().create_task(
                self._enter_standby(reason)
            )
            self._entering_standby.add_done_callback(self._entered_standby)
        else:
            self._set_stopped(reason)

    async def _enter_standby(self, reason: OutOfService) -> None:
        """The node has stopped for good; the process stays to report why."""
        self._peers.links.leave()
        await self._opened.aclose()
        identity = read_identity(self._settings.data_dir)
        if identity is None or not identity.out_of_service:
            self._set_stopped(reason)  # the reason is not on disk: the process must not stay
        else:
            await self._start()

    def _entered_standby(self, entering: asyncio.Task[None]) -> None:
        error = None if entering.cancelled() else entering.exception()
        if error is not None:
            self._set_stopped(error)  # a process that can't report the reason must not stay


def _starting() -> str:
    return "it starts"


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
        stopwatch=time.perf_counter,
        history_revisions_min=settings.history_revisions_min,
        history_age_ms_max=settings.history_age_ms_max,
        history_bytes_max=settings.history_bytes_max,
    )

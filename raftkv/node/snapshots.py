"""Snapshot transfer (Raft section 7): sending to a peer, and installing what a leader sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from raftkv.errors import DamagedData, InvalidRequest, OutOfResources, Unavailable, check
from raftkv.kv.machine import StateMachine
from raftkv.kv.store import StateStore
from raftkv.node.apply import Applier
from raftkv.node.config import NodeConfig
from raftkv.node.replica import Replica
from raftkv.node.run_loop import RunLoop
from raftkv.peer.ports import PeerLinks
from raftkv.raft.entry import SnapshotPoint
from raftkv.raft.messages import InstallSnapshot
from raftkv.storage.damage import damage_of
from raftkv.storage.ports import Checkpoint, StateStorage

INSTALL_TIMEOUT_S = 60.0

TakeCheckpoint = Callable[[], Awaitable[tuple[Checkpoint, SnapshotPoint]]]


class SnapshotTransfers:
    """Sends checkpoints to peers that need a snapshot, one at a time."""

    def __init__(
        self, node_id: int, storage: StateStorage, links: PeerLinks, take: TakeCheckpoint
    ) -> None:
        self._node_id = node_id
        self._storage = storage
        self._links = links
        self._take = take
        self._busy = False
        self._log = structlog.get_logger("raftkv.snapshots").bind(node=node_id)
        self.index_in_use: int | None = None
        """The last index of the snapshot under way: its receiver needs the log after it."""

    async def send(self, peer: int, term: int) -> SnapshotPoint:
        """Send `peer` the present state.

        Raises `Unavailable` if the transfer fails or another one is under way, and `DamagedData` if
        the checkpoint does not verify; then nothing was sent.
        """
        if self._busy:
            raise Unavailable("another peer is being sent a snapshot")
        self._busy = True
        try:
            checkpoint, point = await self._take()
            index = self.index_in_use = point.last_included_index
            try:
                # Damage on this disk must not spread to another node.
                await self._storage.verify(checkpoint)
                self._log.info("snapshot_send", peer=peer, index=index, term=term)
                message = InstallSnapshot(self._node_id, peer, term, point)
                await self._links.send_snapshot(peer, message, checkpoint)
                self._log.info("snapshot_sent", peer=peer, index=index, term=term)
            finally:
                await self._storage.release(checkpoint)
        finally:
            self._busy = False
            self.index_in_use = None
        return point


class SnapshotInstaller:
    """Replaces the state machine and the log of this node by a snapshot of the leader.

    1. `begin`: a leader offers a snapshot; its files are received into a directory.
    2. `verify`: all files have arrived. The core steps the InstallSnapshot message next.
    3. `install`: the core wants the snapshot (`Ready.snapshot`).

    `installed` is called when the node goes on from the snapshot.
    """

    def __init__(
        self,
        replica: Replica,
        applier: Applier,
        config: NodeConfig,
        run: RunLoop,
        installed: Callable[[], None],
    ) -> None:
        self._replica = replica
        self._applier = applier
        self._config = config
        self._run = run
        self._installed = installed
        self._received: Path | None = None
        """The verified files of the last snapshot that arrived."""
        self._log = structlog.get_logger("raftkv.node").bind(node=replica.raft.node_id)

    def begin(self, message: InstallSnapshot) -> Path:
        """The directory for the files of a snapshot that a peer offers.

        Raises `Unavailable` if this node does not want the snapshot, `InvalidRequest` if it is of
        another cluster.
        """
        incarnation = message.snapshot.incarnation
        if incarnation != self._replica.incarnation:
            raise InvalidRequest(
                f"the snapshot is of the cluster founded as {incarnation:016x},"
                f" and this node belongs to {self._replica.incarnation:016x}"
            )
        if self._run.dead or not self._replica.raft.wants_snapshot(message):
            raise Unavailable("this snapshot is not wanted")
        return self._replica.storage.begin_receive()

    async def verify(self, message: InstallSnapshot, received: Path) -> None:
        """Verify the files. Meanwhile this node votes and appends.

        Raises `DamagedData`, and `Unavailable` if the snapshot is not wanted any more.
        """
        await self._replica.storage.verify_received(received)
        if self._run.dead or not self._replica.raft.wants_snapshot(message):
            raise Unavailable("this snapshot is not wanted any more")
        self._received = received

    async def until_installed(self, message: InstallSnapshot) -> None:
        """Return when the state includes the snapshot. Raises `Unavailable` if it never will."""
        raft, index = self._replica.raft, message.snapshot.last_included_index

        def decided() -> bool:
            pending = raft.installing or raft.commit_index >= index
            return raft.last_applied >= index or not pending

        await self._run.until(decided, self._run.loop.time() + INSTALL_TIMEOUT_S)
        if raft.last_applied < index:
            raise Unavailable("this snapshot could not be installed")

    async def install(self, message: InstallSnapshot) -> None:
        """Replace state and log. If the snapshot is damaged, the old ones stay."""
        run, replica, point = self._run, self._replica, message.snapshot
        index, term = point.last_included_index, point.last_included_term
        # An apply must be complete: if the snapshot is damaged, the node goes on from that state.
        await run.until(
            lambda: self._applier.unfinished is None, run.loop.time() + INSTALL_TIMEOUT_S
        )
        check(self._received is not None, "a snapshot is stepped after its data has arrived")
        try:
            store = await replica.storage.install(
                self._received or Path(), lambda state: self._require_point(state, point)
            )
        except DamagedData as error:
            # The damage is in the received files: this node's own data is whole.
            self._log.error("snapshot_damaged", leader=message.sender, reason=damage_of(error))
            replica.raft.snapshot_refused()
            return
        except OutOfResources as error:
            self._log.warning("snapshot_not_installed", reason=error.message)
            replica.raft.snapshot_refused()
            return

        await replica.log_disk.reset(index, term, point.last_included_hash)
        replica.machine = self._machine(store)
        replica.raft.snapshot_installed()
        self._applier.changes.replace(replica.machine)
        await replica.storage.retire()
        self._log.info("snapshot_installed", index=index, term=term, leader=message.sender)
        self._installed()
        run.wake()

    def _machine(self, store: StateStore) -> StateMachine:
        config = self._config
        return StateMachine(store, config.limits, config.step_units, config.mark_entries)

    def _require_point(self, state: StateStore, point: SnapshotPoint) -> None:
        """Raise `DamagedData` unless the state is that of `point`, history included."""
        machine = self._machine(state)
        holds = machine.applied_index, machine.applied_term, machine.applied_hash
        named = point.last_included_index, point.last_included_term, point.last_included_hash
        if holds != named:
            raise DamagedData(
                "a snapshot holds what its name does not say: (index, term, hash)"
                f" {holds}, named {named}"
            )

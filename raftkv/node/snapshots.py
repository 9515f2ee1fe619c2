"""Snapshots that this node sends. Knows checkpoints and links, no algorithm."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from raftkv.errors import Unavailable
from raftkv.peer.ports import PeerLinks
from raftkv.raft.entry import SnapshotPoint
from raftkv.raft.messages import InstallSnapshot
from raftkv.storage.ports import Checkpoint, StateStorage

TakeCheckpoint = Callable[[], Awaitable[tuple[Checkpoint, SnapshotPoint]]]


class SnapshotTransfers:
    """Sends checkpoints to peers that need one. One at a time: it is bulk, and disks are slow."""

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

    async def send(self, peer: int, term: int) -> SnapshotPoint:
        """Bring `peer` the present state. Raises `Unavailable` if that fails or must wait, and
        `DamagedData` if the state is not what this node has written: nothing was sent then.

        Until it returns, the log after `index_in_use` is what the peer will need next.
        """
        if self._busy:
            raise Unavailable("another peer is being sent a snapshot")
        self._busy = True
        try:
            checkpoint, point = await self._take()
            index = self.index_in_use = point.last_included_index
            try:
                # Whatever is damaged here must not become what another node starts from.
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

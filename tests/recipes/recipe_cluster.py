"""The scripted cluster of locks that serves reads and watches too, with the production handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from raftkv.client.link import WATCH
from raftkv.config import Settings
from raftkv.errors import RaftkvError
from raftkv.kv.steps import run
from raftkv.node.change_feed import ChangeFeed
from raftkv.rpc import kv_pb2, log_pb2
from raftkv.server.admission import Admission
from raftkv.server.lock_waits import LockWaits
from raftkv.server.watch_service import WatchService
from tests.client.lock_cluster import LockCluster, LockLink, MachineStore
from tests.client.scripted import ScriptedNode
from tests.client.watch_world import Stream


class ReadableStore(MachineStore):
    """Its state machine is also what is read."""

    def read_all(self, requests: Iterable[kv_pb2.Range]) -> list[kv_pb2.Result]:
        return [run(self.machine.read(request)) for request in requests]

    def keys_of(self, prefix: bytes) -> list[bytes]:
        """The keys that begin so."""
        request = kv_pb2.Range(key=prefix, range_end=prefix[:-1] + bytes([prefix[-1] + 1]))
        return [kv.key for kv in run(self.machine.read(request)).range.kvs]

    def _apply(self, stamped: log_pb2.StampedBatch) -> list[bytes]:
        applied = super()._apply(stamped)
        self.revision = self.machine.revision
        return applied


class RecipeCluster(LockCluster):
    """All that recipes ask for; `watched` has the streams that a client opened."""

    def __init__(self, *addresses: str) -> None:
        super().__init__(*addresses)
        self.store: ReadableStore = ReadableStore()
        self.changes = ChangeFeed(self.store.machine)
        self.waits = LockWaits(self)  # type: ignore[arg-type]
        self.cluster_id, self.incarnation = 7, 70
        self.node_id = 1
        self.opened: list[str] = []
        self.broken: list[BaseException] = []
        self.hosts = {address: WatchHost(self, node) for address, node in self.nodes.items()}

    def link(self, address: str) -> RecipeLink:
        return RecipeLink(self.hosts[address])

    def kill(self, address: str) -> None:
        """The node dies and another one leads."""
        self.nodes[address].kill()
        for stream in list(self.hosts[address].streams):
            stream.break_off()
        self.leader = next(each for each, node in self.nodes.items() if node.up)
        self.term += 1


class WatchHost:
    """What a watch stream needs of the node that serves it."""

    def __init__(self, cluster: RecipeCluster, node: ScriptedNode) -> None:
        self.world = cluster
        self.address = node.address
        self.node = node
        self.cluster = cluster
        self.streams: list[Stream] = []
        self.service = WatchService(
            cluster,  # type: ignore[arg-type]
            Admission(requests_max=9, requests_per_client_max=9, bytes_max=9),
            Settings(),
            cluster.broken.append,
        )

    @property
    def up(self) -> bool:
        return self.node.up

    @property
    def mute(self) -> bool:
        return self.node.mute


class RecipeLink(LockLink):
    """A link that also carries watches."""

    def __init__(self, host: WatchHost) -> None:
        super().__init__(host.node, host.cluster)
        self._host = host

    def open(
        self,
        on_message: Callable[[bytes], None],
        on_end: Callable[[RaftkvError], None],
        method: str = "",
    ) -> Any:
        if method == WATCH:
            return Stream(self._host, on_message, on_end)  # type: ignore[arg-type]
        return super().open(on_message, on_end)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, on virtual time."""
    async with asyncio.timeout(60.0):
        while not condition():  # noqa: ASYNC110 (virtual time)
            await asyncio.sleep(0.001)

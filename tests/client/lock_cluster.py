"""The scripted cluster with the real state machine: real reads, watches and lock waits.

All nodes share the one state machine. Cluster time runs with the loop's clock, and stands still
while the cluster is out of order, as it does without a leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from raftkv.client.connection.link import WATCH
from raftkv.config import Settings
from raftkv.errors import ConnectionFailed, OutcomeUnknown, RaftkvError, TooManyKeys
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.kv.pace import run
from raftkv.logs import get_logger
from raftkv.node.change_feed import ChangeFeed
from raftkv.raft.entry import Entry, EntryKind
from raftkv.rpc.v1 import api_pb2, kv_pb2, log_pb2
from raftkv.server.admission import Admission
from raftkv.server.authorization import Authorizer
from raftkv.server.services.lock_waits import LockWaits
from raftkv.server.watch.service import WatchService
from raftkv.storage.memory_state import MemoryStateStore
from tests.client.scripted import (
    LATENCY_S,
    ScriptedCluster,
    ScriptedLink,
    ScriptedNode,
    Store,
    failure_of,
)
from tests.client.watch_cluster import Stream

TICK_S = 0.01


class MachineStore(Store):
    """The state machine behind the interface of the scripted store."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = StateMachine(MemoryStateStore(), Limits())
        self.time_ms = 0
        self.lease_keys_max = 1_000_000

    def apply(self, batch: kv_pb2.CommandBatch) -> bytes:
        full = [
            position
            for position, command in enumerate(batch.commands)
            if self._has_full_lease(command, batch.commands[:position])
        ]
        runnable = kv_pb2.CommandBatch()
        runnable.CopyFrom(batch)
        for position in full:
            runnable.commands[position].Clear()
        result = kv_pb2.BatchResult.FromString(self._apply_batch(runnable))
        for position in full:
            error = TooManyKeys("the lease is full", keys_max=self.lease_keys_max)
            result.results[position].failure.CopyFrom(failure_of(error))
        return result.SerializeToString()

    def _has_full_lease(self, command: kv_pb2.Command, before: Sequence[kv_pb2.Command]) -> bool:
        lease = command.acquire.lease
        joining = sum(each.acquire.lease == lease for each in before)
        return bool(lease) and (
            len(list(self.machine.lease_keys(lease))) + joining >= self.lease_keys_max
        )

    def _apply_batch(self, batch: kv_pb2.CommandBatch) -> bytes:
        stamped = log_pb2.StampedBatch(time_ms=self.time_ms)
        stamped.submissions.add(origin=1, number=1, commands=batch.SerializeToString())
        (applied,) = self._apply(stamped)
        return applied

    def pass_time(self, milliseconds: int) -> None:
        self.time_ms += milliseconds
        due = self.machine.next_deadline_ms()
        if due is not None and due <= self.time_ms:
            self._apply(log_pb2.StampedBatch(time_ms=self.time_ms))

    def run(self, **command: object) -> kv_pb2.Result:
        """A command of another client."""
        batch = kv_pb2.CommandBatch(commands=[kv_pb2.Command(**command)])
        return kv_pb2.BatchResult.FromString(self.apply(batch)).results[0]

    def read_all(self, requests: Iterable[kv_pb2.Range]) -> list[kv_pb2.Result]:
        return [run(self.machine.read(request)) for request in requests]

    def keys_of(self, prefix: bytes) -> list[bytes]:
        """The keys that begin so."""
        request = kv_pb2.Range(key=prefix, range_end=prefix[:-1] + bytes([prefix[-1] + 1]))
        return [kv.key for kv in run(self.machine.read(request)).range.kvs]

    def tokens(self, name: bytes) -> list[int]:
        """Who stands in the queue."""
        return [member.token for member in self.machine.lock_entries(name)]

    def _apply(self, stamped: log_pb2.StampedBatch) -> list[bytes]:
        entry = Entry(
            1, self.machine.applied_index + 1, EntryKind.COMMANDS, stamped.SerializeToString()
        )
        applied = [applied.result for applied in self.machine.apply([entry])]
        self.revision = self.machine.revision
        return applied


class LockCluster(ScriptedCluster):
    """Also the node behind waits and watches: what they need of one."""

    def __init__(self, *addresses: str, **settings: int) -> None:
        super().__init__(*addresses)
        self.settings = Settings(**settings)
        self.store: MachineStore = MachineStore()
        self.changes = ChangeFeed(self.store.machine)
        self.waits = LockWaits(self)  # type: ignore[arg-type]
        self.asked: list[str] = []  # which node was asked to wait, in order
        self.cluster_id, self.incarnation = 7, 70
        self.node_id = 1
        self.opened: list[str] = []  # where watch streams were opened, in order
        self.broken: list[BaseException] = []
        self.hosts = {address: WatchHost(self, node) for address, node in self.nodes.items()}
        self.down = False
        self._tick()

    @property
    def machine(self) -> StateMachine:
        return self.store.machine

    def pin_history(self, revision: int) -> None: ...

    def read_barrier(self, deadline: float) -> asyncio.Future[None]:
        barrier: asyncio.Future[None] = self.loop.create_future()
        barrier.set_result(None)
        return barrier

    def link(self, address: str) -> ScriptedLink:
        return LockLink(self.hosts[address], self)

    def go_down(self) -> None:
        """No node answers from now on."""
        self.down = True
        for node in self.nodes.values():
            node.mute = True

    def come_up(self) -> None:
        self.down = False
        for node in self.nodes.values():
            node.mute = False

    def commands(self, kind: str, since: float = 0.0) -> list[kv_pb2.Command]:
        """Those of this kind that arrived."""
        return [
            command
            for seen in self.seen
            if seen.at >= since
            for command in seen.batch.commands
            if command.WhichOneof("command") == kind
        ]

    def _tick(self) -> None:
        if not self.down:
            self.store.pass_time(round(TICK_S * 1000))
        self.loop.call_later(TICK_S, self._tick)


class WatchHost:
    """What a watch stream needs of the node that serves it."""

    def __init__(self, cluster: LockCluster, node: ScriptedNode) -> None:
        self.cluster = cluster
        self.address = node.address
        self.node = node
        self.streams: list[Stream] = []
        self.service = WatchService(
            cluster,  # type: ignore[arg-type]
            Authorizer(cluster, cluster.settings, get_logger()),  # type: ignore[arg-type]
            Admission(requests_max=9, requests_per_client_max=9, bytes_max=9),
            cluster.settings,
            cluster.broken.append,
        )

    @property
    def up(self) -> bool:
        return self.node.up

    @property
    def mute(self) -> bool:
        return self.node.mute


class LockLink(ScriptedLink):
    """A link that also carries waits and watches."""

    def __init__(self, host: WatchHost, cluster: LockCluster) -> None:
        super().__init__(host.node)
        self._host = host
        self._cluster = cluster

    def open(
        self,
        on_message: Callable[[bytes], None],
        on_end: Callable[[RaftkvError], None],
        method: str = "",
        token: str = "",
    ) -> Any:
        if method == WATCH:
            return Stream(self._host, on_message, on_end)  # type: ignore[arg-type]
        return super().open(on_message, on_end)

    async def call(self, method: str, request: bytes, timeout_s: float, token: str = "") -> bytes:
        if not method.endswith("/Wait"):
            return await super().call(method, request, timeout_s, token)
        node, cluster = self._node, self._cluster
        wait = api_pb2.LockWaitRequest.FromString(request)
        cluster.asked.append(node.address)
        if not node.up:
            raise ConnectionFailed(f"{node.address} refuses")
        await asyncio.sleep(LATENCY_S)
        turn = cluster.waits.wait(wait.name, wait.token, lambda: None)
        try:
            async with asyncio.timeout(timeout_s - LATENCY_S):
                while node.mute or node.refusal:
                    await asyncio.sleep(TICK_S)
                    if node.refusal:
                        raise node.refusal
                await turn
                await asyncio.sleep(LATENCY_S)
        except TimeoutError:
            raise OutcomeUnknown("no answer") from None
        finally:
            cluster.waits.leave(wait.name, wait.token, turn)
        return api_pb2.LockWaitReply(header=node.header()).SerializeToString()

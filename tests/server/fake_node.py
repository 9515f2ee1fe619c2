"""A node without peers or log behind a real client port on loopback: it applies what it is given.

Without `majority` writes get no result and read barriers never complete. With `hold` writes wait
for `release`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from raftkv.config import Settings
from raftkv.errors import NoLeader, OutcomeUnknown
from raftkv.kv.machine import StateMachine
from raftkv.kv.store import StateStore
from raftkv.logs import get_logger
from raftkv.node import membership_changes
from raftkv.node.change_feed import ChangeFeed
from raftkv.node.status import NodeState, PeerReachability, PeerState
from raftkv.peer.ports import NO_AUTHOR, Author
from raftkv.raft.entry import Address, Entry, EntryKind, Membership, encode_version
from raftkv.raft.ready import RaftRole
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, kv_pb2, log_pb2
from raftkv.server.grpc_server import ClientServer
from raftkv.storage.memory_state import MemoryStateStore
from raftkv.versions import HASHED, VersionRange

PATIENCE_S = 20.0
ADDRESSES = {1: Address("127.0.0.1:7511", "127.0.0.1:7411")}


class FakeNode:
    """The interface of `raftkv.server.node_port.Node`."""

    def __init__(self, settings: Settings, store: StateStore | None = None) -> None:
        self.settings = settings
        self.node_id = 1
        self.cluster_id = 0xC0FFEE
        self.incarnation = 0xF00D
        self.term = 3
        self.ready = True
        self.membership = Membership(voters=frozenset({1}), addresses=ADDRESSES, disk_ids={1: 1})
        self.machine = StateMachine(store or MemoryStateStore(), settings.limits)
        self.changes = ChangeFeed(self.machine)
        self.majority = True
        self.hold = False
        self.submitted: list[bytes] = []
        self.submitted_by: list[tuple[int, int]] = []  # client, and how many commands
        self.authors: list[Author] = []
        self.batch_commands_advised = 0
        self.barriers = 0
        self.leased = False
        self.on_barrier: Callable[[], object] = lambda: None
        self.fresh_as_of_s: float | None = None
        self.leader_given_to: list[int] = []
        self.pinned: list[int] = []
        self.changes_asked: list[
            tuple[membership_changes.MembershipChange, bool]
        ] = []  # and whether by force
        self.not_serving = self.notice = ""
        self._held: list[tuple[bytes, Author, asyncio.Future[bytes]]] = []
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._submission = asyncio.Event()

    def submit(
        self,
        commands: bytes,
        deadline: float,
        *,
        client: int = 0,
        weight: int = 1,
        author: Author = NO_AUTHOR,
    ) -> asyncio.Future[bytes]:
        future: asyncio.Future[bytes] = self._loop.create_future()
        self.submitted.append(commands)
        self.submitted_by.append((client, weight))
        self.authors.append(author)
        self._submission.set()
        if not self.majority:
            self._loop.call_at(deadline, self._fail, future, OutcomeUnknown("proposed, no answer"))
        elif self.hold:
            self._held.append((commands, author, future))
        else:
            self._loop.call_soon(self._apply, commands, author, future)
        return future

    @property
    def auth_time_ms(self) -> int:
        return self.machine.time_ms

    def require_running(self) -> None: ...

    def read_barrier(self, deadline: float) -> asyncio.Future[None]:
        self.barriers += 1
        future: asyncio.Future[None] = self._loop.create_future()
        if self.majority:
            self._loop.call_soon(self._confirm, future, self._loop.time())
        else:
            self._loop.call_at(deadline, self._fail, future, NoLeader("no majority answers"))
        return future

    def lease_barrier(self, deadline: float) -> asyncio.Future[None] | None:
        return None if self.leased else self.read_barrier(deadline)

    def pin_history(self, revision: int) -> None:
        self.pinned.append(revision)

    def status(self) -> NodeState:
        return NodeState(
            node_id=self.node_id,
            cluster_id=self.cluster_id,
            term=self.term,
            role=RaftRole.LEADER,
            leader_id=1,
            learner=False,
            commit_index=self.machine.applied_index,
            applied_index=self.machine.applied_index,
            first_log_index=1,
            last_log_index=self.machine.applied_index,
            revision=self.machine.revision,
            compacted_revision=0,
            cluster_time_ms=self.machine.time_ms,
            disk_bytes=1234,
            membership=self.membership,
            peers=(PeerState(2, PeerReachability.SUSPECT, 1500, 40, "probe"),),
            cluster_version=HASHED,
            not_serving=self.not_serving,
            notice=self.notice,
        )

    async def member_add(
        self, node_id: int, address: Address, deadline: float, *, force: bool = False
    ) -> Membership:
        return self._change(membership_changes.AddLearner(node_id, address, force), force=force)

    async def member_promote(
        self, node_id: int, deadline: float, *, force: bool = False
    ) -> Membership:
        return self._change(membership_changes.Promote(node_id), force=force)

    async def member_remove(
        self, node_id: int, deadline: float, *, force: bool = False
    ) -> Membership:
        return self._change(membership_changes.Remove(node_id), force=force)

    async def member_replace(
        self, old_id: int, new_id: int, deadline: float, *, force: bool = False
    ) -> Membership:
        return self._change(membership_changes.Replace(old_id, new_id), force=force)

    async def member_update(self, node_id: int, address: Address, deadline: float) -> Membership:
        return self._change(membership_changes.UpdateAddress(node_id, address))

    async def member_join(
        self, node_id: int, disk_id: int, versions: VersionRange, address: Address, deadline: float
    ) -> Membership:
        return self._change(membership_changes.Claim(node_id, disk_id, versions, address))

    def _change(
        self, change: membership_changes.MembershipChange, *, force: bool = False
    ) -> Membership:
        self.changes_asked.append((change, force))
        self.membership = change.target(self.membership)
        return self.membership

    async def transfer_leader(self, to: int, deadline: float) -> int:
        self.leader_given_to.append(to)
        return to

    # ---- for tests -------------------------------------------------------------

    def release(self) -> None:
        """Apply what is held, the last one first."""
        self.hold = False
        while self._held:
            self._apply(*self._held.pop())

    async def submissions(self, count: int) -> None:
        """Wait until this many writes have been submitted."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.submitted) < count:
                self._submission.clear()
                await self._submission.wait()

    def run(self, *commands: kv_pb2.Command, author: Author = NO_AUTHOR) -> kv_pb2.BatchResult:
        """Apply at once, as if another client had done it."""
        batch = kv_pb2.CommandBatch(commands=commands)
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._apply(batch.SerializeToString(), author, future)
        return kv_pb2.BatchResult.FromString(future.result())

    def raise_version(self, version: int) -> None:
        """Apply the entry that raises the cluster version."""
        payload = encode_version(version)
        index = self.machine.applied_index + 1
        self.machine.apply([Entry(self.term, index, EntryKind.VERSION, payload)])

    def entry(self, index: int, commands: bytes, author: Author = NO_AUTHOR) -> Entry:
        """An entry of one submission."""
        self._number += 1
        stamped = log_pb2.StampedBatch(time_ms=self._number)
        stamped.submissions.add(
            origin=1,
            number=self._number,
            commands=commands,
            user=author.user,
            auth_revision=author.auth_revision,
        )
        return Entry(self.term, index, EntryKind.COMMANDS, stamped.SerializeToString())

    def _apply(self, commands: bytes, author: Author, future: asyncio.Future[bytes]) -> None:
        (applied,) = self.machine.apply(
            [self.entry(self.machine.applied_index + 1, commands, author)]
        )
        if not future.done():
            future.set_result(applied.result)

    def _confirm(self, barrier: asyncio.Future[None], asked_at_s: float) -> None:
        self.on_barrier()
        self.fresh_as_of_s = asked_at_s
        if not barrier.done():
            barrier.set_result(None)

    def _fail(self, future: asyncio.Future[Any], error: Exception) -> None:
        if not future.done():
            future.set_exception(error)


@dataclass
class FakeServer:
    """A client port with a fake node behind it, and a channel to it."""

    node: FakeNode
    client_server: ClientServer
    port: int
    channel: grpc.aio.Channel
    broken: list[BaseException] = field(default_factory=list)

    @property
    def kv(self) -> Any:
        return api_pb2_grpc.KVStub(self.channel)  # type: ignore[no-untyped-call]

    @property
    def lease(self) -> Any:
        return api_pb2_grpc.LeaseStub(self.channel)  # type: ignore[no-untyped-call]

    @property
    def cluster(self) -> Any:
        return api_pb2_grpc.ClusterStub(self.channel)  # type: ignore[no-untyped-call]

    def pipeline(self) -> Pipeline:
        return Pipeline(self.channel)


@asynccontextmanager
async def open_server(
    data_dir: Path, store: StateStore | None = None, *, ready: bool = True, **settings: Any
) -> AsyncIterator[FakeServer]:
    """Open a client port on a free port of loopback."""
    made = Settings(data_dir=data_dir, **settings)
    node = FakeNode(made, store)
    node.ready = ready
    broken: list[BaseException] = []
    client_server = ClientServer(node, made, get_logger(), broken.append)
    port = await client_server.start("127.0.0.1:0")
    try:
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{port}",
            options=(
                ("grpc.max_send_message_length", -1),
                ("grpc.max_receive_message_length", -1),
                ("grpc.use_local_subchannel_pool", 1),
            ),
        ) as channel:
            yield FakeServer(node, client_server, port, channel, broken)
    finally:
        # A server that is left running after a failed test makes later ones fail.
        node.release()
        await client_server.drain(0)
        await client_server.stop(0)


class Pipeline:
    """A client's end of a pipeline, message by message."""

    def __init__(
        self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...] = ()
    ) -> None:
        open_stream = channel.stream_stream("/raftkv.rpc.v1.Pipeline/Open")
        self.call = open_stream(metadata=metadata)

    async def send_commands(
        self, number: int, *commands: kv_pb2.Command, timeout_ms: int = 0
    ) -> bytes:
        """Send a batch; returns the bytes of the CommandBatch."""
        batch = kv_pb2.CommandBatch(commands=commands).SerializeToString()
        await self.send(
            api_pb2.PipelineRequest(number=number, timeout_ms=timeout_ms, commands=batch)
        )
        return batch

    async def send_reads(
        self,
        number: int,
        *ranges: kv_pb2.Range,
        level: int = api_pb2.READ_LEVEL_LINEARIZABLE,
        timeout_ms: int = 0,
        **fields: Any,
    ) -> None:
        reads = api_pb2.ReadBatch(ranges=ranges, level=level, **fields)  # type: ignore[arg-type]
        await self.send(api_pb2.PipelineRequest(number=number, timeout_ms=timeout_ms, reads=reads))

    async def send(self, request: api_pb2.PipelineRequest) -> None:
        await self.call.write(request.SerializeToString())

    async def reply(self) -> api_pb2.PipelineReply:
        """The next reply."""
        async with asyncio.timeout(PATIENCE_S):
            message = await self.call.read()
        assert isinstance(message, bytes), "the stream has ended"
        return api_pb2.PipelineReply.FromString(message)

    async def end(self) -> grpc.StatusCode:
        """How the stream ended, once it has."""
        async with asyncio.timeout(PATIENCE_S):
            code: grpc.StatusCode = await self.call.code()
        return code


def put(key: str, value: bytes = b"v", **fields: Any) -> kv_pb2.Command:
    return kv_pb2.Command(put=kv_pb2.Put(key=key.encode(), value=value, **fields))


def get(key: str) -> kv_pb2.Range:
    return kv_pb2.Range(key=key.encode())


EVERYTHING = kv_pb2.Range(key=b"\0", range_end=b"\0")

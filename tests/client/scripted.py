"""A cluster in memory that follows a test's script: the client's wire protocol without Raft.

One shared store stands for what a majority has applied. Each node serves it while it is up; a
script can make the next batches of callers' commands go wrong. Node "a:1" leads at first.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from raftkv import errors
from raftkv.client.client import Client, connect
from raftkv.client.connection.cluster_identity import identity_facts
from raftkv.client.connection.link import PIPELINE
from raftkv.client.connection.stream import GREETING
from raftkv.client.settings import ClientSettings
from raftkv.errors import ConnectionFailed, OutcomeUnknown, RaftkvError
from raftkv.rpc.v1 import api_pb2, kv_pb2

LATENCY_S = 0.001
LEASE = kv_pb2.LeaseResult


class Fault(enum.Enum):
    """What becomes of a batch instead of an answer."""

    LOST = "never applied, no answer"
    REPLY_LOST = "applied, no answer"
    BREAK = "never applied, the stream breaks"
    APPLY_AND_BREAK = "applied, the stream breaks"


Answer = Fault | RaftkvError | None
"""None: applied and answered. An error: refused with it, not applied."""


@dataclass
class SeenRequest:
    """A request that arrived at a node."""

    at: float
    node: str
    request: api_pb2.PipelineRequest
    batch: kv_pb2.CommandBatch
    applied: bool = False

    @property
    def keys(self) -> list[bytes]:
        return [command.put.key for command in self.batch.commands]


def failure_of(error: RaftkvError) -> kv_pb2.Failure:
    return kv_pb2.Failure(
        reason=error.reason,
        message=error.message,
        outcome=int(error.outcome),  # type: ignore[arg-type]
        retry_after_ms=round(error.retry_after_s * 1000),
        facts=error.facts,
    )


class Store:
    """What a majority has applied: keys, sessions and their memory."""

    def __init__(self) -> None:
        self.revision = 1
        self.keys: dict[bytes, kv_pb2.KeyValue] = {}
        self.leases: dict[int, int] = {}
        self.leases_granted = 0
        self.results: dict[tuple[int, int], bytes] = {}
        self.puts: list[bytes] = []  # every put that ran, in order
        self.reply_keys_max = 1_000_000
        self.read_rows_max = 1_000_000  # that one read looks at
        self.delete_keys_max = 1_000_000
        self.idempotency_refusal: RaftkvError | None = None  # of each command with such a key
        self.session_refusal: RaftkvError | None = None  # it has no room for what a session needs
        self.answers_per_reply_max = 1_000_000  # of reads, and of commands that read back

    def apply(self, batch: kv_pb2.CommandBatch) -> bytes:
        name = (batch.session, batch.sequence)
        if batch.session and batch.session not in self.leases:
            expired = errors.SessionExpired("the session has expired")
            return kv_pb2.BatchResult(failure=failure_of(expired)).SerializeToString()
        if batch.session and name in self.results:
            return self.results[name]
        if batch.session and self.session_refusal is not None:
            refusal = failure_of(self.session_refusal)
            return kv_pb2.BatchResult(failure=refusal).SerializeToString()
        room = self.answers_per_reply_max
        result = kv_pb2.BatchResult()
        for command in batch.commands:
            if command.idempotency_key and self.idempotency_refusal is not None:
                result.results.append(self._failed(self.idempotency_refusal))
                continue
            room -= command.put.prev_kv
            too_large = self._failed(errors.TooLarge("the reply would be too large"))
            result.results.append(too_large if room < 0 else self._run(command))
        data = result.SerializeToString()
        if batch.session:
            self.results[name] = data
        return data

    def read_all(self, requests: Iterable[kv_pb2.Range]) -> list[kv_pb2.Result]:
        full = self._failed(errors.Overloaded("this reply is full"))
        return [
            self.read(request) if position < self.answers_per_reply_max else full
            for position, request in enumerate(requests)
        ]

    def read(self, request: kv_pb2.Range) -> kv_pb2.Result:
        found = sorted(key for key in self.keys if _within(key, request.key, request.range_end))
        kvs = [self.keys[key] for key in found]
        if request.sort_order == kv_pb2.SORT_ORDER_DESCEND:
            kvs.reverse()
        if request.page:
            return self._read_page(kvs, request)
        if len(kvs) > self.read_rows_max:
            return self._failed(errors.TooManyKeys("use page", keys_max=self.read_rows_max))
        shown = kvs[: request.limit] if request.limit else kvs
        if request.count_only:
            shown = []
        if len(shown) > self.reply_keys_max:
            return self._failed(errors.TooLarge("use limit and continue from the last key"))
        answer = kv_pb2.RangeResult(kvs=shown, count=len(kvs), more=len(shown) < len(kvs))
        return kv_pb2.Result(revision=self.revision, range=answer)

    def _read_page(self, kvs: list[kv_pb2.KeyValue], request: kv_pb2.Range) -> kv_pb2.Result:
        found = kvs[: min(request.limit or self.read_rows_max, self.read_rows_max)]
        shown = [] if request.count_only else found
        if len(shown) > self.reply_keys_max:
            return self._failed(errors.TooLarge("use limit and continue from the last key"))
        page = kv_pb2.RangeResult(kvs=shown, count=len(found), more=len(found) < len(kvs))
        if page.more:
            page.next_key = kvs[len(found)].key
        return kv_pb2.Result(revision=self.revision, range=page)

    def _delete(self, deletion: kv_pb2.DeleteRange) -> kv_pb2.Result:
        found = sorted(key for key in self.keys if _within(key, deletion.key, deletion.range_end))
        if not deletion.limit and len(found) > self.delete_keys_max:
            return self._failed(errors.TooManyKeys("use limit", keys_max=self.delete_keys_max))
        gone = found[: min(deletion.limit or self.delete_keys_max, self.delete_keys_max)]
        for key in gone:
            del self.keys[key]
        self.revision += bool(gone)
        deleted = kv_pb2.DeleteRangeResult(deleted=len(gone), more=len(gone) < len(found))
        return kv_pb2.Result(revision=self.revision, delete_range=deleted)

    def _run(self, command: kv_pb2.Command) -> kv_pb2.Result:
        match command.WhichOneof("command"):
            case "lease_grant":
                self.leases_granted += 1
                lease = command.lease_grant.lease or self.leases_granted
                self.leases[lease] = command.lease_grant.ttl_ms
            case "lease_renew":
                lease = command.lease_renew.lease
            case "lease_revoke":
                lease = command.lease_revoke.lease
                self.leases.pop(lease, None)
                return kv_pb2.Result(revision=self.revision, lease=LEASE(lease=lease))
            case "put":
                return self._put(command.put)
            case "delete_range":
                return self._delete(command.delete_range)
            case _:
                return kv_pb2.Result(revision=self.revision)
        if lease not in self.leases:
            return self._failed(errors.LeaseNotFound(f"no lease {lease}"))
        ttl_ms = self.leases[lease]
        return kv_pb2.Result(revision=self.revision, lease=LEASE(lease=lease, ttl_ms=ttl_ms))

    def _put(self, put: kv_pb2.Put) -> kv_pb2.Result:
        if put.lease and put.lease not in self.leases:
            return self._failed(errors.LeaseNotFound(f"no lease {put.lease}"))
        self.revision += 1
        self.puts.append(put.key)
        self.keys[put.key] = kv_pb2.KeyValue(
            key=put.key, value=put.value, mod_revision=self.revision, version=1
        )
        return kv_pb2.Result(revision=self.revision)

    def _failed(self, error: RaftkvError) -> kv_pb2.Result:
        return kv_pb2.Result(revision=self.revision, failure=failure_of(error))


def _within(key: bytes, start: bytes, end: bytes) -> bool:
    if not end:
        return key == start
    return key >= start and (end == b"\x00" or key < end)


@dataclass
class ScriptedNode:
    """One endpoint. `up` false: it refuses connections; `mute`: it takes them and says nothing,
    but who it is, if it `greets`.
    """

    cluster: ScriptedCluster
    address: str
    up: bool = True
    mute: bool = False
    greets: bool = False
    answer_s: float = LATENCY_S  # how long a unary call takes
    refusal: RaftkvError | None = None  # of everything but Status
    cluster_id: int = 7
    incarnation: int = 70
    streams: list[ScriptedStream] = field(default_factory=list)
    connections: int = 0

    def header(self) -> api_pb2.ReplyHeader:
        return api_pb2.ReplyHeader(
            cluster_id=self.cluster_id,
            incarnation=self.incarnation,
            node_id=1,
            term=self.cluster.term,
        )

    def kill(self) -> None:
        """The process dies: its streams break, connections are refused."""
        self.up = False
        if self.cluster.leader == self.address:
            self.cluster.leader = ""
        for stream in list(self.streams):
            stream.end(OutcomeUnknown("connection reset"))


class ScriptedCluster:
    """Nodes, the store they share, and the script."""

    def __init__(self, *addresses: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.store = Store()
        self.nodes = {address: ScriptedNode(self, address) for address in addresses}
        self.leader = addresses[0]
        self.term = 1
        self.members: list[str] = []  # what a status says of them
        self.seen: list[SeenRequest] = []
        self.called: list[str] = []  # the methods of unary calls, but Status
        self.script: deque[Answer] = deque()
        self.refuse_reads: Callable[[api_pb2.ReadBatch], RaftkvError | None] = lambda reads: None
        self.staleness_ms = 0
        self.batch_commands_max = 0  # what the nodes advise
        self.answer_to: Callable[[SeenRequest], Answer] = lambda seen: None

    async def connect(self, timeout: float, settings: ClientSettings) -> Client:
        addresses = list(self.nodes)
        rng = random.Random(7)
        return await connect(
            addresses, timeout=timeout, settings=settings, links=self.link, rng=rng
        )

    def link(self, address: str) -> ScriptedLink:
        return ScriptedLink(self.nodes[address])

    @property
    def writes(self) -> list[SeenRequest]:
        """The batches of callers' commands that arrived, in order."""
        return [seen for seen in self.seen if seen.batch.session]

    @property
    def reads(self) -> list[SeenRequest]:
        return [seen for seen in self.seen if seen.request.HasField("reads")]

    def handle(self, stream: ScriptedStream, message: bytes) -> None:
        node = stream.node
        request = api_pb2.PipelineRequest.FromString(message)
        batch = kv_pb2.CommandBatch.FromString(request.commands)
        seen = SeenRequest(self.loop.time(), node.address, request, batch)
        if request.number == GREETING:
            if not node.mute or node.greets:
                self._greet(stream)
            return
        self.seen.append(seen)
        if node.mute:
            return
        answer: Answer = node.refusal or self.refuse_reads(request.reads)
        if answer is None and batch.session:
            answer = self.script.popleft() if self.script else self.answer_to(seen)
        reply = api_pb2.PipelineReply(
            number=request.number,
            header=node.header(),
            batch_commands_max=self.batch_commands_max,
        )
        if isinstance(answer, RaftkvError):
            reply.failure.CopyFrom(failure_of(answer))
        elif request.HasField("reads"):
            reply.reads.results.extend(self.store.read_all(request.reads.ranges))
            for _ in request.reads.transactions:
                ran = kv_pb2.TransactionResult(succeeded=True)
                reply.reads.results.add(revision=self.store.revision, transaction=ran)
            reply.reads.staleness_ms = self.staleness_ms
        elif answer in (None, Fault.APPLY_AND_BREAK, Fault.REPLY_LOST):
            reply.results = self.store.apply(batch)
            seen.applied = True
        reply.header.revision = self.store.revision
        if answer in (Fault.BREAK, Fault.APPLY_AND_BREAK):
            stream.end(OutcomeUnknown("connection reset"))
        elif answer is None or isinstance(answer, RaftkvError):
            stream.deliver(reply.SerializeToString())

    def _greet(self, stream: ScriptedStream) -> None:
        reply = api_pb2.PipelineReply(number=GREETING, header=stream.node.header())
        refusal = stream.node.refusal
        if isinstance(refusal, errors.NotServing | errors.ShuttingDown):
            reply.failure.CopyFrom(failure_of(refusal))
        else:
            reply.reads.SetInParent()
        reply.header.revision = self.store.revision
        stream.deliver(reply.SerializeToString())

    def unary(self, node: ScriptedNode, method: str) -> bytes:
        if method.endswith("/Status"):
            leads = self.leader == node.address
            return api_pb2.StatusReply(
                header=node.header(),
                role=api_pb2.ROLE_LEADER if leads else api_pb2.ROLE_FOLLOWER,
                members=[api_pb2.Member(client_address=each) for each in self.members],
            ).SerializeToString()
        self.called.append(method)
        if node.refusal is not None:
            node.refusal.facts |= identity_facts(node.header())
            raise node.refusal
        return api_pb2.MemberListReply(
            header=node.header(), members=[api_pb2.Member(node_id=1, client_address=node.address)]
        ).SerializeToString()


class ScriptedLink:
    """A Link to a scripted node."""

    def __init__(self, node: ScriptedNode) -> None:
        self._node = node

    def open(
        self,
        on_message: Callable[[bytes], None],
        on_end: Callable[[RaftkvError], None],
        method: str = PIPELINE,
        token: str = "",
    ) -> ScriptedStream:
        return ScriptedStream(self._node, on_message, on_end, token)

    async def call(self, method: str, request: bytes, timeout_s: float, token: str = "") -> bytes:
        node = self._node
        silent = node.mute and not (node.greets and method.endswith("/Status"))
        if silent or node.answer_s > timeout_s:
            await asyncio.sleep(timeout_s)
            raise OutcomeUnknown("no answer")
        await asyncio.sleep(node.answer_s)
        if not node.up:
            raise ConnectionFailed(f"{node.address} refuses")
        return node.cluster.unary(node, method)

    async def close(self) -> None:
        pass


class ScriptedStream:
    """A Stream to a scripted node: every message takes LATENCY_S each way."""

    def __init__(
        self,
        node: ScriptedNode,
        on_message: Callable[[bytes], None],
        on_end: Callable[[RaftkvError], None],
        token: str,
    ) -> None:
        self.node = node
        self.token = token
        self._on_message = on_message
        self._on_end = on_end
        self._loop = node.cluster.loop
        self._open = True
        node.connections += 1
        if node.up:
            node.streams.append(self)
        else:
            self._later(self.end, ConnectionFailed(f"{node.address} refuses"))

    def send(self, message: bytes) -> None:
        if self.node.up:
            self._later(self.node.cluster.handle, self, message)

    def close(self) -> None:
        self._open = False
        if self in self.node.streams:
            self.node.streams.remove(self)

    def deliver(self, message: bytes) -> None:
        self._later(self._on_message, message)

    def end(self, error: RaftkvError) -> None:
        if self._open:
            self.close()
            self._on_end(error)

    def _later(self, act: Callable[..., None], *arguments: object) -> None:
        def if_open() -> None:
            if self._open:
                act(*arguments)

        self._loop.call_later(LATENCY_S, if_open)

"""A walk over every command and read of the client port, with arguments that ask for the most work.

The steps stand on each other: some make what later ones ask for, and the last ones take it away. A
refusal is a fine answer if it is one of `raftkv.errors` that says that nothing happened.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import grpc

from raftkv import errors
from raftkv.errors import RaftkvError
from raftkv.kv.limits import TRANSACTION_DEPTH_MAX, Limits
from raftkv.rpc import api_pb2, api_pb2_grpc, kv_pb2
from raftkv.server.failures import error_of, error_of_call
from tests.cluster.cluster import Cluster, eventually

KEYS = 200_000
ALL = {"key": b"k/", "range_end": b"k0"}
LIMITS = Limits()
BATCH = LIMITS.batch_commands_max
OPERATIONS = LIMITS.transaction_operations_max
LEASE = 1_000_000
QUEUE, QUEUE_LEASE = b"queue", 77
KEYS_OF_ONE_LEASE, HEAVY_LEASE = 10_000, 78
PATIENCE_S = 20.0

REFUSALS = (errors.InvalidRequest, errors.Refused, errors.Overloaded)
REFUSALS_OF_READS = (*REFUSALS, errors.DeadlineExceeded)


def key(number: int) -> bytes:
    return b"k/%06d" % number


def put(number: int, value: bytes = b"", **fields: int) -> kv_pb2.Command:
    return kv_pb2.Command(put=kv_pb2.Put(key=key(number), value=value, **fields))


def puts(first: int, count: int, word: int) -> list[kv_pb2.Command]:
    """Values in another order than their keys."""
    return [
        put(number, b"%07d %07d" % (number * 7919 % 1_000_003, word))
        for number in range(first, first + count)
    ]


def ranges() -> Iterator[kv_pb2.Range]:
    """Every flavour of a range over all keys: each field alone, and sorting with selection."""
    yield kv_pb2.Range(**ALL)
    for limit in (1, 10_000, 2**63 - 1):
        yield kv_pb2.Range(**ALL, limit=limit)
        yield kv_pb2.Range(**ALL, limit=limit, page=True)
    yield kv_pb2.Range(**ALL, keys_only=True)
    yield kv_pb2.Range(**ALL, count_only=True)
    yield kv_pb2.Range(key=b"\x00", range_end=b"\x00", limit=1, revision=KEYS // 2)
    yield kv_pb2.Range(**ALL, count_only=True, revision=KEYS + 1)
    for bound in ("min_mod", "max_mod", "min_create", "max_create"):
        value = 1 if bound.startswith("max") else 2**62
        yield kv_pb2.Range(**ALL, limit=1, **{f"{bound}_revision": value})
    for target in kv_pb2.SortTarget.values():
        for order in (kv_pb2.SORT_ORDER_ASCEND, kv_pb2.SORT_ORDER_DESCEND):
            yield kv_pb2.Range(**ALL, sort_target=target, sort_order=order, limit=1)
    by_value = {"sort_target": kv_pb2.SORT_TARGET_VALUE, "sort_order": kv_pb2.SORT_ORDER_ASCEND}
    yield kv_pb2.Range(**ALL, **by_value, keys_only=True)
    yield kv_pb2.Range(**ALL, **by_value, limit=10_000, revision=KEYS + 1)


def compares() -> Iterator[kv_pb2.Compare]:
    """Each holds for every key of the range, so that none can be left out."""
    never = kv_pb2.COMPARE_RESULT_NOT_EQUAL
    for number in (-5, 2**62):
        yield kv_pb2.Compare(**ALL, result=never, version=number)
        yield kv_pb2.Compare(**ALL, result=never, create_revision=number)
        yield kv_pb2.Compare(**ALL, result=never, mod_revision=number)
        yield kv_pb2.Compare(**ALL, result=never, lease=number)
        yield kv_pb2.Compare(**ALL, result=never, value=b"no such value")


def transactions() -> Iterator[kv_pb2.Transaction]:
    """As many compares and ranges as a transaction takes, in a row and within each other."""
    taken = list(itertools.islice(itertools.cycle(compares()), OPERATIONS))
    yield kv_pb2.Transaction(compare=taken[:1])
    yield kv_pb2.Transaction(compare=taken)
    for each in (
        kv_pb2.Range(**ALL, count_only=True),
        kv_pb2.Range(
            **ALL,
            limit=1,
            sort_target=kv_pb2.SORT_TARGET_VALUE,
            sort_order=kv_pb2.SORT_ORDER_DESCEND,
        ),
        kv_pb2.Range(**ALL, limit=1, min_mod_revision=2**62),
        kv_pb2.Range(**ALL, count_only=True, revision=KEYS),
    ):
        yield kv_pb2.Transaction(success=[kv_pb2.Operation(range=each)] * OPERATIONS)
    nested = kv_pb2.Transaction(compare=taken[:4])
    for level in range(TRANSACTION_DEPTH_MAX - 1):
        within = kv_pb2.Operation(transaction=nested)
        nested = kv_pb2.Transaction(compare=taken[level : level + 4], success=[within])
    yield nested


class Walk:
    """What the steps ask, of whom, and what they were told."""

    def __init__(self, cluster: Cluster, leader: int) -> None:
        self.cluster = cluster
        self.leader = leader
        self.answers: Counter[str] = Counter()
        self.faults: list[str] = []
        self.restarted: set[int] = set()
        self._channels: dict[int, grpc.aio.Channel] = {}
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Walk:
        for node_id, node in self.cluster.nodes.items():
            channel = grpc.aio.insecure_channel(
                node.client_address, options=(("grpc.max_receive_message_length", -1),)
            )
            self._channels[node_id] = await self._opened.enter_async_context(channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    @property
    def followers(self) -> list[int]:
        return [node_id for node_id in self.cluster.nodes if node_id != self.leader]

    def channel(self, node_id: int = 0) -> grpc.aio.Channel:
        return self._channels[node_id or self.leader]

    def answered(self, error: RaftkvError | None, allowed: Sequence[type[RaftkvError]]) -> None:
        self.answers[error.reason if error else "ok"] += 1
        if error is not None and not isinstance(error, tuple(allowed)):
            self.faults.append(f"answered {error.reason}: {error.message[:120]}")

    async def ask(
        self, call: Callable[..., Awaitable[object]], request: object, *, read: bool
    ) -> object:
        """A unary call; its reply, or None if it was refused."""
        try:
            reply = await call(request, timeout=PATIENCE_S)
        except grpc.aio.AioRpcError as failed:
            error = error_of_call(failed)
            if error is None:
                self.answers[failed.code().name] += 1
                self.faults.append(f"ended with {failed.code().name}: {failed.details()}")
            else:
                self.answered(error, REFUSALS_OF_READS if read else REFUSALS)
            return None
        self.answered(None, ())
        return reply

    async def execute(self, command: kv_pb2.Command, node_id: int = 0) -> object:
        kv = api_pb2_grpc.KVStub(self.channel(node_id))  # type: ignore[no-untyped-call]
        return await self.ask(kv.Execute, api_pb2.ExecuteRequest(command=command), read=False)

    async def read(self, request: kv_pb2.Range | kv_pb2.Transaction) -> None:
        """Of all nodes at once."""
        asked = []
        for channel in self._channels.values():
            kv = api_pb2_grpc.KVStub(channel)  # type: ignore[no-untyped-call]
            if isinstance(request, kv_pb2.Range):
                asked.append(self.ask(kv.Range, api_pb2.RangeRequest(range=request), read=True))
            else:
                of_many = api_pb2.ReadTransactionRequest(transaction=request)
                asked.append(self.ask(kv.ReadTransaction, of_many, read=True))
        await asyncio.gather(*asked)

    @asynccontextmanager
    async def pipeline(
        self, node_id: int = 0
    ) -> AsyncIterator[Callable[[api_pb2.PipelineRequest], Awaitable[None]]]:
        """One request after the other on a stream."""
        call = self.channel(node_id).stream_stream(
            "/raftkv.rpc.Pipeline/Open",
            request_serializer=api_pb2.PipelineRequest.SerializeToString,
            response_deserializer=api_pb2.PipelineReply.FromString,
        )()

        async def ask(request: api_pb2.PipelineRequest) -> None:
            request.timeout_ms = int(PATIENCE_S * 1000)
            await call.write(request)
            self._heard(await call.read())

        try:
            yield ask
        finally:
            call.cancel()

    def _heard(self, reply: object) -> None:
        if not isinstance(reply, api_pb2.PipelineReply):
            self.faults.append("the pipeline ended")
            return
        if reply.HasField("failure"):
            self.answered(error_of(reply.failure), REFUSALS_OF_READS)
            return
        outcome = kv_pb2.BatchResult.FromString(reply.results)
        results = reply.reads.results or outcome.results
        failed = [each.failure for each in results if each.HasField("failure")]
        for failure in [outcome.failure] if outcome.HasField("failure") else failed:
            self.answered(error_of(failure), REFUSALS_OF_READS if reply.reads.results else REFUSALS)
        self.answers["ok"] += len(results) - len(failed)

    async def batch(
        self, commands: Sequence[kv_pb2.Command], node_id: int = 0, **fields: int
    ) -> None:
        batch = kv_pb2.CommandBatch(commands=commands, **fields)
        async with self.pipeline(node_id) as ask:
            await ask(api_pb2.PipelineRequest(number=1, commands=batch.SerializeToString()))

    async def applied(self) -> None:
        """Wait until every node has applied what the leader has committed."""
        committed = (await self.status(self.leader)).commit_index

        async def everywhere() -> bool:
            each = [await self.status(node_id) for node_id in self.cluster.nodes]
            return all(status.applied_index >= committed for status in each)

        await eventually(everywhere, f"all nodes have applied entry {committed}")

    async def status(self, node_id: int) -> api_pb2.StatusReply:
        stub = api_pb2_grpc.ClusterStub(self.channel(node_id))  # type: ignore[no-untyped-call]
        reply: api_pb2.StatusReply = await stub.Status(api_pb2.StatusRequest(), timeout=PATIENCE_S)
        return reply

    async def count(self, **of: bytes) -> int:
        stub = api_pb2_grpc.KVStub(self.channel())  # type: ignore[no-untyped-call]
        counted, more = 0, True
        while more:
            request = kv_pb2.Range(**of, page=True, count_only=True)
            reply = await stub.Range(api_pb2.RangeRequest(range=request), timeout=PATIENCE_S)
            counted, more = counted + reply.result.count, bool(reply.result.next_key)
            of["key"] = reply.result.next_key
        return counted


Step = Callable[[Walk], Awaitable[None]]
STEPS: dict[str, Step] = {}


def step(function: Step) -> Step:
    STEPS[function.__name__.replace("_", " ")] = function
    return function


# ---- what there is to walk over --------------------------------------------------------


@step
async def the_largest_batches(walk: Walk) -> None:
    """Through each node in turn: those of followers are forwarded."""
    nodes = itertools.cycle([walk.leader, *walk.followers])
    for first in range(0, KEYS, BATCH):
        await walk.batch(puts(first, BATCH, 0), next(nodes))


@step
async def all_of_it_overwritten(walk: Walk) -> None:
    for first in range(0, KEYS, BATCH):
        await walk.batch(puts(first, BATCH, 1))


@step
async def a_long_queue(walk: Walk) -> None:
    grant = kv_pb2.LeaseGrant(lease=QUEUE_LEASE, ttl_ms=3_600_000)
    join = kv_pb2.Command(acquire=kv_pb2.Acquire(name=QUEUE, lease=QUEUE_LEASE, value=b"v" * 100))
    await walk.batch([kv_pb2.Command(lease_grant=grant), *[join] * (BATCH - 1)])


@step
async def large_values(walk: Walk) -> None:
    for number in range(8):
        large = kv_pb2.Put(
            key=b"large/%d" % number, value=b"v" * LIMITS.value_bytes_max, prev_kv=True
        )
        await walk.execute(kv_pb2.Command(put=large))


# ---- reads -----------------------------------------------------------------------------


@step
async def ranges_of_every_flavour(walk: Walk) -> None:
    for request in ranges():
        await walk.read(request)


@step
async def read_transactions(walk: Walk) -> None:
    for transaction in transactions():
        await walk.read(transaction)


@step
async def ranges_by_the_thousand(walk: Walk) -> None:
    """In one request: of all keys, and of single ones at old revisions."""
    old = [kv_pb2.Range(key=key(n), revision=KEYS + 1) for n in range(BATCH)]
    for several in ([kv_pb2.Range(**ALL, count_only=True)] * 100, old):
        reads = api_pb2.ReadBatch(ranges=several)
        async with walk.pipeline() as ask:
            await ask(api_pb2.PipelineRequest(number=1, reads=reads))


@step
async def a_list_of_the_queue(walk: Walk) -> None:
    for node_id in walk.cluster.nodes:
        lock = api_pb2_grpc.LockStub(walk.channel(node_id))  # type: ignore[no-untyped-call]
        await walk.ask(lock.Info, api_pb2.LockInfoRequest(name=QUEUE), read=True)


# ---- transactions, fences, compare-and-swap --------------------------------------------


@step
async def write_transactions(walk: Walk) -> None:
    for transaction in transactions():
        await walk.execute(kv_pb2.Command(transaction=transaction), walk.followers[0])
        await walk.execute(kv_pb2.Command(transaction=transaction))


@step
async def a_batch_of_costly_transactions(walk: Walk) -> None:
    compare = next(compares())
    costly = kv_pb2.Command(transaction=kv_pb2.Transaction(compare=[compare]))
    await walk.batch([costly] * 50)
    narrow = kv_pb2.Compare(result=3, key=key(0), range_end=key(1000), version=-5)
    await walk.batch([kv_pb2.Command(transaction=kv_pb2.Transaction(compare=[narrow] * 8))] * 200)


@step
async def fences_without_number(walk: Walk) -> None:
    """Of the long queue, and of thousands of names that there are not."""
    fence = kv_pb2.Fence(name=QUEUE, token=2 * KEYS + 1)
    others = [kv_pb2.Fence(name=b"none/%06d" % n, token=1) for n in range(40_000)]
    for fences in ([fence] * 40_000, others):
        await walk.execute(kv_pb2.Command(put=kv_pb2.Put(key=b"fenced"), fences=fences))
    one = kv_pb2.Command(put=kv_pb2.Put(key=b"fenced"), fences=[fence])
    await walk.batch([one] * BATCH)


@step
async def compare_and_swap(walk: Walk) -> None:
    large = b"v" * LIMITS.value_bytes_max
    swap = kv_pb2.CompareAndSwap(key=b"large/0", value=large, new_value=b"w")
    await walk.execute(kv_pb2.Command(compare_and_swap=swap))
    await walk.batch(
        [
            kv_pb2.Command(
                compare_and_swap=kv_pb2.CompareAndSwap(key=b"large/1", value=b"", new_value=b"w")
            )
        ]
        * BATCH
    )


@step
async def idempotency_keys_that_expire_together(walk: Walk) -> None:
    named = [
        kv_pb2.Command(
            put=kv_pb2.Put(key=b"named"), idempotency_key=b"%06d" % n, idempotency_ttl_ms=1
        )
        for n in range(BATCH)
    ]
    await walk.batch(named)
    await walk.batch([put(0)])


@step
async def a_session_with_large_results(walk: Walk) -> None:
    grant = kv_pb2.LeaseGrant(lease=79, ttl_ms=60_000)
    await walk.execute(kv_pb2.Command(lease_grant=grant))
    everything = kv_pb2.Operation(range=kv_pb2.Range(**ALL, limit=9_000))
    command = kv_pb2.Command(transaction=kv_pb2.Transaction(success=[everything] * 8))
    for sequence in (1, 2, 2):
        await walk.batch([command] * 4, session=79, sequence=sequence)
    await walk.execute(kv_pb2.Command(lease_revoke=kv_pb2.LeaseRevoke(lease=79)))


# ---- leases ----------------------------------------------------------------------------


@step
async def leases_by_the_thousand(walk: Walk) -> None:
    """Granted, listed, kept alive in one command, and expired together with their keys."""
    for half in range(2):
        commands = []
        for n in range(half * BATCH // 2, (half + 1) * BATCH // 2):
            grant = kv_pb2.LeaseGrant(lease=LEASE + n, ttl_ms=4_000)
            commands += [kv_pb2.Command(lease_grant=grant), put(n, b"leased", lease=LEASE + n)]
        await walk.batch(commands)
    for node_id in walk.cluster.nodes:
        stub = api_pb2_grpc.LeaseStub(walk.channel(node_id))  # type: ignore[no-untyped-call]
        await walk.ask(stub.List, api_pb2.LeaseListRequest(), read=True)
    everyone = kv_pb2.LeaseKeepAlive(leases=range(LEASE, LEASE + 150_000))
    await walk.execute(kv_pb2.Command(lease_keep_alive=everyone))
    await eventually(lambda: _is_gone(walk, LEASE + BATCH - 1), "the leases have expired")
    await eventually(lambda: _counts(walk, KEYS - BATCH), "and their keys with them")


async def _is_gone(walk: Walk, lease: int) -> bool:
    stub = api_pb2_grpc.LeaseStub(walk.channel())  # type: ignore[no-untyped-call]
    reply = await stub.TimeToLive(api_pb2.LeaseTimeToLiveRequest(lease=lease), timeout=PATIENCE_S)
    return bool(reply.ttl_ms < 0)


async def _counts(walk: Walk, keys: int) -> bool:
    return await walk.count(**ALL) == keys


def _heavy(**of: int) -> Iterator[list[kv_pb2.Command]]:
    grant = kv_pb2.LeaseGrant(lease=HEAVY_LEASE, **of)
    yield [kv_pb2.Command(lease_grant=grant)]
    for first in range(0, KEYS_OF_ONE_LEASE + 1, BATCH):
        count = min(BATCH, KEYS_OF_ONE_LEASE + 1 - first)
        keys = range(KEYS // 2 + first, KEYS // 2 + first + count)
        yield [put(number, b"leased", lease=HEAVY_LEASE) for number in keys]


@step
async def one_lease_of_very_many_keys_revoked(walk: Walk) -> None:
    for commands in _heavy(ttl_ms=60_000):
        await walk.batch(commands)
    stub = api_pb2_grpc.LeaseStub(walk.channel())  # type: ignore[no-untyped-call]
    request = api_pb2.LeaseTimeToLiveRequest(lease=HEAVY_LEASE, keys=True)
    await walk.ask(stub.TimeToLive, request, read=True)
    await walk.execute(kv_pb2.Command(lease_revoke=kv_pb2.LeaseRevoke(lease=HEAVY_LEASE)))


@step
async def one_lease_of_very_many_keys_expired(walk: Walk) -> None:
    for commands in _heavy(ttl_ms=2_000):
        await walk.batch(commands)
    await eventually(lambda: _is_gone(walk, HEAVY_LEASE), "the lease has expired")


# ---- watches ---------------------------------------------------------------------------


@step
async def watches_from_the_first_revision(walk: Walk) -> None:
    """A hundred over all keys, with all that they can carry, of which one is read to the end."""
    revision = (await walk.status(walk.leader)).header.revision
    streams = []
    for node_id in walk.cluster.nodes:
        call = walk.channel(node_id).stream_stream(
            "/raftkv.rpc.Watch/Open",
            request_serializer=api_pb2.WatchRequest.SerializeToString,
            response_deserializer=api_pb2.WatchReply.FromString,
        )
        unread, read = call(), call()
        streams += [unread, read]
        create = {"key": b"\x00", "range_end": b"\x00", "prev_kv": True}
        await unread.write(
            api_pb2.WatchRequest(
                creates=[
                    api_pb2.WatchCreate(watch_id=n, start_revision=1, **create) for n in range(100)
                ]
            )
        )
        old = api_pb2.WatchCreate(watch_id=1, start_revision=max(1, revision - 100_000), **create)
        await read.write(api_pb2.WatchRequest(creates=[old]))
    try:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(_read_up_to(walk, call, revision) for call in streams[1::2]))
    except TimeoutError:
        walk.faults.append("a watch did not catch up")
    for call in streams:
        call.cancel()


async def _read_up_to(walk: Walk, call: grpc.aio.StreamStreamCall, revision: int) -> None:
    reached = 0
    while reached < revision:
        reply = await call.read()
        if not isinstance(reply, api_pb2.WatchReply):
            walk.faults.append("a watch stream ended")
            return
        for news in reply.news:
            if news.HasField("ended"):
                walk.answered(error_of(news.ended), REFUSALS_OF_READS)
                return
            reached = max(reached, news.revision)
    walk.answers["ok"] += 1


@step
async def a_follower_that_needs_a_snapshot(walk: Walk) -> None:
    """Killed, left behind by the log, and back. Its own loop is not judged: it serves nobody."""
    behind = walk.followers[-1]
    walk.restarted.add(behind)
    walk.cluster.nodes[behind].kill()
    for first in range(0, 4 * BATCH, BATCH):
        await walk.batch(puts(first, BATCH, 2))
    walk.cluster.start(behind)
    await walk.cluster.ready(behind)


# ---- and all of it away ----------------------------------------------------------------


@step
async def deletions_within_transactions(walk: Walk) -> None:
    size = 400
    deletions = [
        kv_pb2.Operation(
            delete_range=kv_pb2.DeleteRange(
                key=key(n * size), range_end=key((n + 1) * size), prev_kv=n % 2 == 0
            )
        )
        for n in range(OPERATIONS)
    ]
    await walk.execute(kv_pb2.Command(transaction=kv_pb2.Transaction(success=deletions)))


@step
async def a_batch_of_deletions(walk: Walk) -> None:
    first, size = 60_000, 10
    await walk.batch(
        [
            kv_pb2.Command(
                delete_range=kv_pb2.DeleteRange(key=key(at), range_end=key(at + size), prev_kv=True)
            )
            for at in range(first, first + 1_000 * size, size)
        ]
    )


@step
async def compaction_of_every_old_version(walk: Walk) -> None:
    revision = (await walk.status(walk.leader)).header.revision
    await walk.execute(kv_pb2.Command(compact=kv_pb2.Compact(revision=revision)))
    for _ in range(50):  # entries that carry the compaction on where nothing else does
        await walk.execute(put(KEYS - 1))


@step
async def deletions_of_everything(walk: Walk) -> None:
    """With every limit; those that are refused leave the keys to the next one."""
    for fields in ({"prev_kv": True}, {}, {"limit": 2**63 - 1}, {"limit": 10_001}):
        deletion = kv_pb2.DeleteRange(**ALL, **fields)
        await walk.execute(kv_pb2.Command(delete_range=deletion))
    while await walk.count(**ALL):
        deletion = kv_pb2.DeleteRange(**ALL, limit=10_000)
        if await walk.execute(kv_pb2.Command(delete_range=deletion)) is None:
            return
    queue = kv_pb2.DeleteRange(key=QUEUE + b"/", range_end=QUEUE + b"0")
    await walk.execute(kv_pb2.Command(delete_range=queue))


@step
async def reads_over_what_was_deleted(walk: Walk) -> None:
    for request in itertools.islice(ranges(), 3):
        await walk.read(request)
    revision = (await walk.status(walk.leader)).header.revision
    await walk.execute(kv_pb2.Command(compact=kv_pb2.Compact(revision=revision)))
    for transaction in itertools.islice(transactions(), 2):
        await walk.execute(kv_pb2.Command(transaction=transaction))

"""The last steps: leases, watches, snapshots, and everything is taken away again."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import grpc

from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, kv_pb2
from raftkv.wire.failures import error_of
from tests.cluster.adversary.requests import (
    ALL,
    BATCH,
    HEAVY_LEASE,
    KEYS,
    KEYS_OF_ONE_LEASE,
    LEASE,
    OPERATIONS,
    QUEUE,
    key,
    put,
    puts,
    ranges,
    transactions,
)
from tests.cluster.adversary.walk import PATIENCE_S, REFUSALS_OF_READS, Steps, Walk
from tests.cluster.cluster import eventually

STEPS = Steps()
WAITERS = 3_000


# ---- leases ----------------------------------------------------------------------------


@STEPS.add
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
    everyone = range(LEASE, LEASE + 150_000)
    keep = kv_pb2.LeaseKeepAlive(leases=everyone)
    await walk.execute(kv_pb2.Command(lease_keep_alive=keep))
    stub = api_pb2_grpc.LeaseStub(walk.channel(walk.followers[0]))  # type: ignore[no-untyped-call]
    call = stub.KeepAlive(timeout=PATIENCE_S)
    await call.write(api_pb2.LeaseKeepAliveRequest(leases=everyone))
    await walk.ask_stream(call)
    renewals = [kv_pb2.LeaseRenew(lease=LEASE + n) for n in range(BATCH)]
    await walk.batch([kv_pb2.Command(lease_renew=renewal) for renewal in renewals])
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


@STEPS.add
async def one_lease_of_very_many_keys_revoked(walk: Walk) -> None:
    for commands in _heavy(ttl_ms=60_000):
        await walk.batch(commands)
    stub = api_pb2_grpc.LeaseStub(walk.channel())  # type: ignore[no-untyped-call]
    request = api_pb2.LeaseTimeToLiveRequest(lease=HEAVY_LEASE, keys=True)
    await walk.ask(stub.TimeToLive, request, read=True)
    await walk.execute(kv_pb2.Command(lease_revoke=kv_pb2.LeaseRevoke(lease=HEAVY_LEASE)))


@STEPS.add
async def one_lease_of_very_many_keys_expired(walk: Walk) -> None:
    for commands in _heavy(ttl_ms=2_000):
        await walk.batch(commands)
    await eventually(lambda: _is_gone(walk, HEAVY_LEASE), "the lease has expired")


# ---- watches ---------------------------------------------------------------------------


@STEPS.add
async def watches_from_the_first_revision(walk: Walk) -> None:
    """A hundred over all keys, with all that they can carry, of which one is read to the end."""
    revision = (await walk.status(walk.leader)).header.revision
    streams = []
    for node_id in walk.cluster.nodes:
        call = walk.channel(node_id).stream_stream(
            "/raftkv.rpc.v1.Watch/Open",
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


@STEPS.add
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


@STEPS.add
async def waiters_by_the_thousand_lose_their_places(walk: Walk) -> None:
    """At every node, in a queue of which half goes away in one command."""
    lock = api_pb2_grpc.LockStub(walk.channel())  # type: ignore[no-untyped-call]
    queue = await walk.ask(lock.Info, api_pb2.LockInfoRequest(name=QUEUE), read=True)
    if not isinstance(queue, api_pb2.LockInfoReply):
        return
    waits = []
    for number, member in enumerate(queue.members[1 : 1 + WAITERS]):
        node_id = 1 + number % len(walk.cluster.nodes)
        stub = api_pb2_grpc.LockStub(walk.channel(node_id))  # type: ignore[no-untyped-call]
        request = api_pb2.LockWaitRequest(name=QUEUE, token=member.token)
        waits.append(asyncio.ensure_future(walk.ask(stub.Wait, request, read=True)))
    await walk.execute(put(0))
    half = kv_pb2.DeleteRange(key=QUEUE + b"/", range_end=QUEUE + b"0", limit=BATCH // 2)
    await walk.execute(kv_pb2.Command(delete_range=half))
    await asyncio.gather(*waits)


@STEPS.add
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


@STEPS.add
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


@STEPS.add
async def compaction_of_every_old_version(walk: Walk) -> None:
    revision = (await walk.status(walk.leader)).header.revision
    await walk.execute(kv_pb2.Command(compact=kv_pb2.Compact(revision=revision)))
    for _ in range(50):  # entries that carry the compaction on where nothing else does
        await walk.execute(put(KEYS - 1))


@STEPS.add
async def deletions_of_everything(walk: Walk) -> None:
    """With every limit; those that are refused leave the keys to the next one."""
    for fields in ({"prev_kv": True}, {}, {"limit": 2**63 - 1}, {"limit": 10_001}):
        deletion = kv_pb2.DeleteRange(**ALL, **fields)
        await walk.execute(kv_pb2.Command(delete_range=deletion))
    while await walk.count(**ALL):
        deletion = kv_pb2.DeleteRange(**ALL, limit=10_000)
        if await walk.execute(kv_pb2.Command(delete_range=deletion)) is None:
            walk.faults.append("a page of a deletion was refused")
            return
    queue = kv_pb2.DeleteRange(key=QUEUE + b"/", range_end=QUEUE + b"0")
    await walk.execute(kv_pb2.Command(delete_range=queue))


@STEPS.add
async def reads_over_what_was_deleted(walk: Walk) -> None:
    for request in itertools.islice(ranges(), 3):
        await walk.read(request)
    revision = (await walk.status(walk.leader)).header.revision
    await walk.execute(kv_pb2.Command(compact=kv_pb2.Compact(revision=revision)))
    for transaction in itertools.islice(transactions(), 2):
        await walk.execute(kv_pb2.Command(transaction=transaction))

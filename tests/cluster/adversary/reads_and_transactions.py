"""The first steps: what is there to walk over, reads, and commands that read a lot."""

from __future__ import annotations

import itertools

from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, kv_pb2
from tests.cluster.adversary.requests import (
    ALL,
    BATCH,
    KEYS,
    LIMITS,
    OPERATIONS,
    QUEUE,
    QUEUE_LEASE,
    key,
    put,
    puts,
    ranges,
    transactions,
)
from tests.cluster.adversary.walk import Steps, Walk

STEPS = Steps()


# ---- what there is to walk over --------------------------------------------------------


@STEPS.add
async def the_largest_batches(walk: Walk) -> None:
    """Through each node in turn: those of followers are forwarded."""
    nodes = itertools.cycle([walk.leader, *walk.followers])
    for first in range(0, KEYS, BATCH):
        await walk.batch(puts(first, BATCH, 0), next(nodes))


@STEPS.add
async def all_of_it_overwritten(walk: Walk) -> None:
    for first in range(0, KEYS, BATCH):
        await walk.batch(puts(first, BATCH, 1))


@STEPS.add
async def a_long_queue(walk: Walk) -> None:
    grant = kv_pb2.LeaseGrant(lease=QUEUE_LEASE, ttl_ms=3_600_000)
    join = kv_pb2.Command(acquire=kv_pb2.Acquire(name=QUEUE, lease=QUEUE_LEASE, value=b"v" * 100))
    await walk.batch([kv_pb2.Command(lease_grant=grant), *[join] * (BATCH - 1)])


@STEPS.add
async def large_values(walk: Walk) -> None:
    for number in range(8):
        large = kv_pb2.Put(
            key=b"large/%d" % number, value=b"v" * LIMITS.value_bytes_max, prev_kv=True
        )
        await walk.execute(kv_pb2.Command(put=large))


# ---- reads -----------------------------------------------------------------------------


@STEPS.add
async def ranges_of_every_flavour(walk: Walk) -> None:
    for request in ranges():
        await walk.read(request)


@STEPS.add
async def read_transactions(walk: Walk) -> None:
    for transaction in transactions():
        await walk.read(transaction)


@STEPS.add
async def ranges_by_the_thousand(walk: Walk) -> None:
    """In one request: of all keys, and of single ones at old revisions."""
    old = [kv_pb2.Range(key=key(n), revision=KEYS + 1) for n in range(BATCH)]
    for several in ([kv_pb2.Range(**ALL, count_only=True)] * 100, old):
        reads = api_pb2.ReadBatch(ranges=several)
        async with walk.pipeline() as ask:
            await ask(api_pb2.PipelineRequest(number=1, reads=reads))


@STEPS.add
async def a_list_of_the_queue(walk: Walk) -> None:
    for node_id in walk.cluster.nodes:
        lock = api_pb2_grpc.LockStub(walk.channel(node_id))  # type: ignore[no-untyped-call]
        await walk.ask(lock.Info, api_pb2.LockInfoRequest(name=QUEUE), read=True)


# ---- transactions, fences, compare-and-swap --------------------------------------------


@STEPS.add
async def write_transactions(walk: Walk) -> None:
    for transaction in transactions():
        await walk.execute(kv_pb2.Command(transaction=transaction), walk.followers[0])
        await walk.execute(kv_pb2.Command(transaction=transaction))


@STEPS.add
async def batches_of_costly_transactions(walk: Walk) -> None:
    """Each of what a command may look at, or nearly: what is a bound of one is none of a batch."""
    for keys, count in ((KEYS, 50), (KEYS // 2 - 1, 50), (KEYS // 20, 400), (KEYS // 200, 4_000)):
        compare = kv_pb2.Compare(
            result=kv_pb2.COMPARE_RESULT_NOT_EQUAL, key=key(0), range_end=key(keys), version=-5
        )
        costly = kv_pb2.Command(transaction=kv_pb2.Transaction(compare=[compare]))
        await walk.batch([costly] * count)


@STEPS.add
async def a_batch_of_transactions_of_puts(walk: Walk) -> None:
    for first in (0, KEYS // 2):
        several = [
            kv_pb2.Transaction(
                success=[kv_pb2.Operation(put=each.put) for each in puts(at, OPERATIONS, 2)]
            )
            for at in range(first, first + 80 * OPERATIONS, OPERATIONS)
        ]
        await walk.batch([kv_pb2.Command(transaction=each) for each in several])


@STEPS.add
async def fences_without_number(walk: Walk) -> None:
    """Of the long queue, and of thousands of names that there are not."""
    fence = kv_pb2.Fence(name=QUEUE, token=2 * KEYS + 1)
    others = [kv_pb2.Fence(name=b"none/%06d" % n, token=1) for n in range(40_000)]
    for fences in ([fence] * 40_000, others):
        await walk.execute(kv_pb2.Command(put=kv_pb2.Put(key=b"fenced"), fences=fences))
    one = kv_pb2.Command(put=kv_pb2.Put(key=b"fenced"), fences=[fence])
    await walk.batch([one] * BATCH)


@STEPS.add
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


@STEPS.add
async def idempotency_keys_that_expire_together(walk: Walk) -> None:
    named = [
        kv_pb2.Command(
            put=kv_pb2.Put(key=b"named"), idempotency_key=b"%06d" % n, idempotency_ttl_ms=1
        )
        for n in range(BATCH)
    ]
    await walk.batch(named)
    await walk.batch([put(0)])


@STEPS.add
async def a_session_with_large_results(walk: Walk) -> None:
    grant = kv_pb2.LeaseGrant(lease=79, ttl_ms=60_000)
    await walk.execute(kv_pb2.Command(lease_grant=grant))
    everything = kv_pb2.Operation(range=kv_pb2.Range(**ALL, limit=9_000))
    command = kv_pb2.Command(transaction=kv_pb2.Transaction(success=[everything] * 8))
    for sequence in (1, 2, 2):
        await walk.batch([command] * 4, session=79, sequence=sequence)
    await walk.execute(kv_pb2.Command(lease_revoke=kv_pb2.LeaseRevoke(lease=79)))

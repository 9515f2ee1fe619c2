"""Keys and values of the measurements, the same for every system."""

from __future__ import annotations

import asyncio
import enum
import random

from bench_lib.cluster import Client

FILL_BATCH_KEYS = 100  # etcd's limit is 128 operations in a transaction
FILL_BATCHES_IN_FLIGHT = 16


class Operation(enum.StrEnum):
    PUT = "put"  # of a key that is new
    OVERWRITE = "overwrite"  # of a random key of the fill
    GET = "get"  # of a random key of the fill, linearizable
    FOLLOWER_GET = "follower-get"  # the same, all from one follower
    STALE_GET = "stale-get"  # of a random key of the fill, as that follower has it
    LOCK = "lock"  # acquire and release a name that nobody else wants


OURS_ONLY = frozenset({Operation.FOLLOWER_GET, Operation.STALE_GET})
FROM_A_FOLLOWER = OURS_ONLY
READS = frozenset({Operation.GET, Operation.FOLLOWER_GET, Operation.STALE_GET})


def values(size_bytes: int, seed: int) -> list[bytes]:
    """Values that no system can make smaller."""
    chance = random.Random(seed)
    return [chance.randbytes(size_bytes) for _ in range(64)]


def filled_key(number: int) -> bytes:
    return b"fill/%08d" % number


async def fill(client: Client, first: int, end: int, value_bytes: int) -> None:
    """Write the keys numbered from `first` up to, not including, `end`."""
    choices = values(value_bytes, seed=0)
    starts = iter(range(first, end, FILL_BATCH_KEYS))

    async def worker() -> None:
        for start in starts:
            stop = min(start + FILL_BATCH_KEYS, end)
            await client.put_many(
                [(filled_key(each), choices[each % len(choices)]) for each in range(start, stop)]
            )

    await asyncio.gather(*(worker() for _ in range(FILL_BATCHES_IN_FLIGHT)))

"""Low disk space: the node refuses requests that store data, and transfers leadership.

Each node decides for itself, at its client port. It still appends entries that other nodes propose:
one full disk does not stop the cluster, and if all disks are full, all nodes refuse. A write that
fails for lack of space still stops the node; it can start again with the space of the reserve.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from raftkv.errors import DiskFull
from raftkv.logs import Logger
from raftkv.metrics import table
from raftkv.metrics.samples import SampleSet
from raftkv.rpc.v1 import kv_pb2
from raftkv.storage.reserve import DiskReserve

INTERVAL_S = 0.1
"""A node that writes 100 MB/s fills a tenth of the reserve in this time."""

ADVICE = (
    "delete keys, compact the history (`raftkv compact REVISION`), or free space on this disk:"
    " deletions, compactions, leases and reads go on"
)


RequireRoom: TypeAlias = Callable[[kv_pb2.CommandBatch], None]
"""Raises `DiskFull` if space is low and a command of the batch stores data."""


def room_for_all(_: kv_pb2.CommandBatch) -> None:
    """A `RequireRoom` that refuses no batch."""


class DiskSpace:
    """Whether the disk has space for commands that store data; it has until `watch` or `check`."""

    def __init__(self, reserve: DiskReserve, log: Logger) -> None:
        self._reserve = reserve
        self._log = log
        self._free_bytes = reserve.free_bytes()
        self.low = False

    def sample(self, samples: SampleSet) -> None:
        samples.set(table.DISK_FREE, self._free_bytes)
        samples.set(table.DISK_RESERVE, self._reserve.size_bytes)
        samples.set(table.DISK_LOW, self.low)

    def require_room(self, batch: kv_pb2.CommandBatch) -> None:
        """Raise `DiskFull`, with the command's position, if one of the commands stores data."""
        if not self.low:
            return
        for position, command in enumerate(batch.commands):
            if takes_space(command):
                raise DiskFull(
                    f"this node has {self._free_bytes >> 20} MiB left on its disk, and takes no"
                    f" puts and locks below {self._reserve.size_bytes >> 20} MiB; {ADVICE}",
                    free_bytes=self._free_bytes,
                    position=position,
                )

    async def watch(self, transfer_leadership: Callable[[], Awaitable[bool]]) -> None:
        """Check ten times a second. While space is low, call `transfer_leadership` until it returns
        True: a node transfers it once, because the next leader's disk may be as full.
        """
        transferred = False
        while self._reserve.size_bytes:
            await self.check()
            transferred = self.low and (transferred or await transfer_leadership())
            await asyncio.sleep(INTERVAL_S)

    async def check(self) -> None:
        """Measure the free space; take or release the reserve accordingly."""
        reserve = self._reserve
        self._free_bytes = free_bytes = reserve.free_bytes()
        facts = {"free_bytes": free_bytes, "reserve_bytes": reserve.size_bytes}
        if free_bytes < reserve.size_bytes:
            if not self.low:
                self._log.error("disk_low", advice=ADVICE, **facts)
            self.low = True
            if free_bytes < reserve.size_bytes // 4 and reserve.release():
                self._log.warning("disk_reserve_released", **facts)
        elif free_bytes >= 2 * reserve.size_bytes:
            if not reserve.held and not await asyncio.to_thread(reserve.take):
                return
            if self.low:
                self._log.info("disk_has_room", **facts)
            self.low = False


def takes_space(command: kv_pb2.Command) -> bool:
    """Whether a command stores data: a value, or an entry in a lock's queue."""
    kind = command.WhichOneof("command")
    if kind == "transaction":
        return _puts(command.transaction)
    return kind in ("put", "compare_and_swap", "acquire")


def _puts(transaction: kv_pb2.Transaction) -> bool:
    return any(
        operation.HasField("put")
        or (operation.HasField("transaction") and _puts(operation.transaction))
        for operation in (*transaction.success, *transaction.failure)
    )

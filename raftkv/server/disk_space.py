"""What a node does while its disk is nearly full: it takes nothing that grows, and says so.

Each node decides for itself, at its own front door, and as a leader gives leadership away. What
others propose it stores all the same: a cluster does not stand still for one full disk, and if all
are full, all refuse. A write that fails for want of space still ends the node; it starts again with
the space of the reserve.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from raftkv.errors import DiskFull
from raftkv.logs import Logger
from raftkv.rpc.v1 import kv_pb2
from raftkv.storage.reserve import DiskReserve

INTERVAL_S = 0.1
"""A node that writes 100 MB a second has written a tenth of the reserve meanwhile."""

ADVICE = (
    "delete keys, compact the history (`raftkv compact REVISION`), or free space on this disk:"
    " deletions, compactions, leases and reads go on"
)


RequireRoom: TypeAlias = Callable[[kv_pb2.CommandBatch], None]
"""Raises `DiskFull` if a command of the batch would take space that there is not."""


def room_for_all(_: kv_pb2.CommandBatch) -> None:
    """Refuses nothing."""


class DiskSpace:
    """Whether there is room for puts. Without `watch` there is."""

    def __init__(self, reserve: DiskReserve, log: Logger) -> None:
        self._reserve = reserve
        self._log = log
        self._free_bytes = reserve.free_bytes()
        self.low = False

    def require_room(self, batch: kv_pb2.CommandBatch) -> None:
        """Raise `DiskFull`, with the command's position, if one of them would take space."""
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

    async def watch(self, give_way: Callable[[], Awaitable[bool]]) -> None:
        """Look ten times a second. While space is low `give_way` is called until it returns True:
        a node gives leadership away once, for the next one's disk may be no better.
        """
        gave_way = False
        while self._reserve.size_bytes:
            await self.look()
            gave_way = self.low and (gave_way or await give_way())
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Find out how much space is left, and hold or release the reserve accordingly."""
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
    """Whether a command stores something: a value, or a place in the queue of a lock."""
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

"""The scrub: a slow background read of the whole disk, which finds damage while other nodes still
have good copies.
"""

from __future__ import annotations

import asyncio
from random import Random

import structlog

from raftkv.errors import DamagedData, StorageError
from raftkv.storage.ports import LogStore, Slice, StateStorage

BYTES_PER_S_MAX = 5_000_000
CPU_SHARE_MAX = 0.02
"""Of one core."""

STEP_CPU_S = 0.0002
"""What a slice costs beside what its thread measures: the hand-over to it and back."""

INTERVAL_S = 86_400.0
FIRST_ROUND_WITHIN_S = 300.0
"""After the start, by chance: nodes that are started together don't scrub together."""


class Scrub:
    """Reads everything that the stores hold, round after round."""

    def __init__(
        self,
        node_id: int,
        log_store: LogStore,
        state_storage: StateStorage,
        rng: Random,
        interval_s: float,
    ) -> None:
        """A round begins every `interval_s`; one that takes longer is followed by the next."""
        self._log_store = log_store
        self._storage = state_storage
        self._rng = rng
        self._interval_s = interval_s
        self._loop = asyncio.get_running_loop()
        self._log = structlog.get_logger("raftkv.scrub").bind(node=node_id)

    async def run(self) -> None:
        """Scrub until damage is found. Raises `DamagedData`."""
        first_within_s = min(FIRST_ROUND_WITHIN_S, self._interval_s)
        await asyncio.sleep(self._rng.uniform(0.0, first_within_s))
        while True:
            began_s = self._loop.time()
            try:
                bytes_read = await self._round()
            except DamagedData:
                raise
            except StorageError as error:
                self._log.warning("scrub_failed", reason=error.message)
            else:
                took_s = self._loop.time() - began_s
                self._log.info("scrub_done", bytes=bytes_read, took_s=round(took_s, 1))
            await asyncio.sleep(max(0.0, began_s + self._interval_s - self._loop.time()))

    async def _round(self) -> int:
        """Read everything once; how many bytes that were."""
        bytes_read = 0
        for store in (self._log_store, self._storage):
            verification = store.verification()
            last = False
            while not last:
                began_s = self._loop.time()
                read = await verification.step()
                bytes_read += read.bytes_read
                last = read.last
                await asyncio.sleep(max(0.0, began_s + due_s(read) - self._loop.time()))
        return bytes_read


def due_s(read: Slice) -> float:
    """For how long a slice must last, so that neither disk nor CPU has more to do than allowed."""
    by_cpu_s = (read.cpu_s + STEP_CPU_S) / CPU_SHARE_MAX
    return max(read.bytes_read / BYTES_PER_S_MAX, by_cpu_s)

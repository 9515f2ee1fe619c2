"""The scrub reads everything, once a day, and never faster than its pace, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random

import pytest
from structlog.testing import capture_logs

from raftkv.errors import DamagedData, StorageError
from raftkv.node.scrub import (
    BYTES_PER_S_MAX,
    CPU_SHARE_MAX,
    FIRST_ROUND_WITHIN_S,
    INTERVAL_S,
    STEP_CPU_S,
    Scrub,
)
from raftkv.storage.memory import MemoryLogStore, MemoryStateStorage
from raftkv.storage.ports import Slice


class Disk:
    """Verifications of these slices; each step takes its time, and writes down when it began."""

    def __init__(self, *slices: Slice | StorageError, step_s: float = 0.001) -> None:
        self.slices = slices
        self.step_s = step_s
        self.rounds_begun_s: list[float] = []
        self.steps: list[tuple[float, Slice]] = []

    def verification(self) -> Verification:
        self.rounds_begun_s.append(asyncio.get_running_loop().time())
        return Verification(self)


class Verification:
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._slices: Iterator[Slice | StorageError] = iter(disk.slices)

    async def step(self) -> Slice:
        began_s = asyncio.get_running_loop().time()
        await asyncio.sleep(self._disk.step_s)
        found = next(self._slices)
        if isinstance(found, StorageError):
            raise found
        self._disk.steps.append((began_s, found))
        return found


def slices(count: int, bytes_read: int, cpu_s: float) -> list[Slice]:
    return [Slice(bytes_read, cpu_s, last=number == count - 1) for number in range(count)]


async def scrubbed_for(seconds: float, log: Disk, state: Disk, seed: int = 1) -> None:
    scrub = Scrub(1, log, state, Random(seed), INTERVAL_S)  # type: ignore[arg-type]
    task = asyncio.create_task(scrub.run())
    await asyncio.wait([task], timeout=seconds)
    if task.done():
        task.result()
    task.cancel()


@pytest.mark.parametrize(("bytes_read", "cpu_s"), [(256 << 10, 0.0002), (40_000, 0.004)])
async def test_a_scrub_stays_within_its_byte_rate_and_cpu_share(
    bytes_read: int, cpu_s: float
) -> None:
    disk = Disk(*slices(5000, bytes_read, cpu_s))
    await scrubbed_for(INTERVAL_S, Disk(*slices(1, 0, 0.0)), disk)
    assert len(disk.steps) == 5000
    for first in range(0, 4900, 100):
        window = disk.steps[first : first + 101]
        took_s = window[-1][0] - window[0][0]
        assert sum(each.bytes_read for _, each in window[:-1]) <= took_s * BYTES_PER_S_MAX * 1.001
        cpu_total_s = sum(each.cpu_s + STEP_CPU_S for _, each in window[:-1])
        assert cpu_total_s <= took_s * CPU_SHARE_MAX * 1.001
    whole_s = disk.steps[-1][0] - disk.steps[0][0]
    slowest_s = max(bytes_read / BYTES_PER_S_MAX, (cpu_s + STEP_CPU_S) / CPU_SHARE_MAX)
    assert whole_s < 5000 * slowest_s * 1.01  # nor does it take longer than it must


async def test_log_and_state_are_read_once_a_day() -> None:
    log, state = Disk(*slices(3, 100, 0.0)), Disk(*slices(7, 100, 0.0))
    with capture_logs() as said:
        await scrubbed_for(9.5 * INTERVAL_S, log, state)
    assert [len(each.rounds_begun_s) for each in (log, state)] == [10, 10]
    assert [len(each.steps) for each in (log, state)] == [30, 70]
    gaps = [b - a for a, b in zip(log.rounds_begun_s, log.rounds_begun_s[1:], strict=False)]
    assert gaps == [pytest.approx(INTERVAL_S)] * 9
    done = [event for event in said if event["event"] == "scrub_done"]
    assert [event["bytes"] for event in done] == [1000] * 10


async def test_nodes_that_start_together_begin_at_different_times_and_soon() -> None:
    began_s = []
    for seed in range(20):
        disk, now_s = Disk(*slices(1, 0, 0.0)), asyncio.get_running_loop().time()
        await scrubbed_for(INTERVAL_S / 2, disk, Disk(*slices(1, 0, 0.0)), seed)
        began_s.append(disk.rounds_begun_s[0] - now_s)
    assert max(began_s) <= FIRST_ROUND_WITHIN_S
    assert len({round(each) for each in began_s}) > 15
    assert max(began_s) - min(began_s) > FIRST_ROUND_WITHIN_S / 2


async def test_damage_in_any_store_ends_the_scrub() -> None:
    damage, sound = DamagedData("a block is damaged"), Slice(0, 0.0, last=True)
    for log, state in ((damage, sound), (sound, damage)):
        with pytest.raises(DamagedData):
            await scrubbed_for(2 * INTERVAL_S, Disk(log), Disk(state))


async def test_what_can_not_be_read_for_another_reason_is_tried_again_the_next_day() -> None:
    disk = Disk(StorageError("too many open files"))
    with capture_logs() as said:
        await scrubbed_for(2.5 * INTERVAL_S, disk, Disk())
    assert len(disk.rounds_begun_s) == 3
    assert {event["reason"] for event in said} == {"too many open files"}


async def test_the_stores_in_memory_can_be_scrubbed(tmp_path: object) -> None:
    state = MemoryStateStorage(tmp_path)  # type: ignore[arg-type]
    task = asyncio.create_task(Scrub(1, MemoryLogStore(), state, Random(1), 10.0).run())
    await asyncio.wait([task], timeout=100.0)
    assert not task.done()
    task.cancel()

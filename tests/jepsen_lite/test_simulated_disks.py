"""A simulated disk is copied and emptied with all its contents, but not its machine's settings."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from jepsen_lite.sim.nodes.disk import Disk
from raftkv.errors import DiskFull
from raftkv.kv.store import Family
from raftkv.raft.entry import Entry, EntryKind, HardState

ENTRIES = tuple(Entry(1, index, EntryKind.COMMANDS, b"payload") for index in (1, 2, 3))
ROW = {Family.CURRENT: {b"key": b"value"}}


def a_disk(directory: Path) -> Disk:
    return Disk(directory, Random(1))


async def written(directory: Path) -> Disk:
    disk = a_disk(directory)
    await disk.log.append(HardState(2, 3, 1), ENTRIES)
    disk.state.store.write(ROW)
    await disk.state.sync()
    return disk


def found_on(disk: Disk) -> tuple[Any, ...]:
    """What a node finds there at its start."""
    log, state = disk.log.recover(), disk.state.store
    return log.hard_state, tuple(log.entries), state.get(Family.CURRENT, b"key")


async def test_a_copy_has_all_that_was_synced_and_stays_as_it_was(tmp_path: Path) -> None:
    disk, other = await written(tmp_path / "a"), a_disk(tmp_path / "b")
    copy = disk.copy()
    await disk.log.append(HardState(9, 1, 3), [])
    disk.state.store.write({Family.CURRENT: {b"key": b"another"}})
    other.put(copy)
    assert found_on(other) == (HardState(2, 3, 1), ENTRIES, b"value")
    await other.log.append(HardState(7, 2, 3), [])
    other.put(copy)
    assert found_on(other) == (HardState(2, 3, 1), ENTRIES, b"value")
    assert found_on(disk) == (HardState(9, 1, 3), ENTRIES, b"another")


async def test_unsynced_writes_are_not_in_a_copy(tmp_path: Path) -> None:
    disk, other = await written(tmp_path / "a"), a_disk(tmp_path / "b")
    disk.slow_s = 60.0
    writing = asyncio.create_task(disk.log.append(HardState(5, 5, 1), []))
    disk.state.store.write({Family.CURRENT: {b"key": b"another"}})
    await asyncio.sleep(0)
    copy = disk.copy()
    await writing
    other.put(copy)
    assert found_on(other) == (HardState(2, 3, 1), ENTRIES, b"value")
    assert found_on(disk)[0] == HardState(5, 5, 1)


async def test_a_copy_can_be_put_on_the_disk_that_it_was_taken_of(tmp_path: Path) -> None:
    disk = await written(tmp_path / "a")
    copy = disk.copy()
    await disk.log.append(HardState(9, 1, 3), [])
    disk.crash(power=True)
    disk.put(copy)
    assert found_on(disk) == (HardState(2, 3, 1), ENTRIES, b"value")


async def test_an_attribute_that_is_added_later_is_copied_and_emptied_as_well(
    tmp_path: Path,
) -> None:
    disk, other = await written(tmp_path / "a"), a_disk(tmp_path / "b")
    vars(disk)["identity"] = {"node_id": 1, "starts": [1]}
    copy = disk.copy()
    vars(disk)["identity"]["starts"].append(2)
    other.put(copy)
    assert vars(other)["identity"] == {"node_id": 1, "starts": [1]}
    other.empty()
    assert "identity" not in vars(other)
    assert found_on(other) == (HardState(), (), None)
    assert vars(other).keys() == vars(a_disk(tmp_path / "c")).keys()


async def test_a_disk_that_got_a_copy_keeps_the_limits_of_its_machine(
    tmp_path: Path,
) -> None:
    disk, other = await written(tmp_path / "a"), a_disk(tmp_path / "b")
    disk.full = True
    other.put(disk.copy())
    await other.log.append(HardState(9, 1, 3), [])
    other.full, disk.full = True, False
    await disk.log.append(HardState(9, 1, 3), [])
    with pytest.raises(DiskFull):
        await other.log.append(HardState(10, 1, 3), [])


async def test_a_checkpoint_under_way_outlives_a_copy_of_its_disk(tmp_path: Path) -> None:
    disk, other = await written(tmp_path / "a"), a_disk(tmp_path / "b")
    checkpoint = await disk.state.checkpoint(3, 1)
    other.put(disk.copy())
    assert list(checkpoint.path.iterdir())
    assert (await other.state.checkpoint(3, 1)).path.is_relative_to(tmp_path / "b")

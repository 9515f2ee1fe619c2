"""A crash of a memory store loses the unsynced writes, and no others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raftkv.errors import DamagedData, StorageError
from raftkv.kv.store import Family
from raftkv.raft.entry import HardState
from raftkv.storage.memory import MemoryLogStore, MemoryStateStorage

from .test_log_store import entries
from .test_state_storage import content, receive


class HeldDisk:
    """A disk whose syncs wait until it is let go."""

    def __init__(self) -> None:
        self._held = asyncio.Event()
        self._held.set()

    def hold(self) -> None:
        self._held.clear()

    def release(self) -> None:
        self._held.set()

    def hold_no_more(self) -> asyncio.Event:
        """Let later ones pass; those that wait already are let go by setting what this returns."""
        before, self._held = self._held, asyncio.Event()
        self._held.set()
        return before

    async def wait(self) -> None:
        await self._held.wait()


@pytest.mark.parametrize("surviving", [0, 1, 2])
async def test_a_crash_amid_a_sync_loses_all_but_a_prefix_of_the_writes(surviving: int) -> None:
    disk = HeldDisk()
    log = MemoryLogStore(disk.wait)
    await log.append(HardState(1, 1, 0), entries(1, 3))
    disk.hold()
    writes = [
        asyncio.create_task(log.append(HardState(2, 2, 0), [])),
        asyncio.create_task(log.append(None, entries(2, 2, term=2))),
    ]
    await asyncio.sleep(0)
    assert log.unsynced == 2
    restarted = log.crash(surviving).recover()
    assert restarted.hard_state == (HardState(2, 2, 0) if surviving else HardState(1, 1, 0))
    assert list(restarted.entries) == (
        entries(1, 1) + entries(2, 2, term=2) if surviving == 2 else entries(1, 3)
    )
    disk.release()
    for write in writes:
        with pytest.raises(StorageError, match="closed"):
            await write


async def test_a_store_after_a_crash_can_not_change_the_surviving_one() -> None:
    log = MemoryLogStore()
    await log.append(None, entries(1, 1))
    successor = log.crash()
    with pytest.raises(StorageError):
        await log.append(None, entries(2, 2))
    await successor.append(None, entries(2, 3))
    assert len(successor.recover().entries) == 3


async def test_a_restart_after_a_restart_keeps_what_was_synced_in_each() -> None:
    log = MemoryLogStore()
    for index in range(1, 5):
        await log.append(None, entries(index, index))
        log = log.crash()
    assert list(log.recover().entries) == entries(1, 4)


async def test_a_crash_loses_the_unsynced_runs_of_the_state(tmp_path: Path) -> None:
    storage = MemoryStateStorage(tmp_path)
    storage.store.write({Family.CURRENT: {b"a": b"1"}})
    await storage.sync()
    storage.store.write({Family.CURRENT: {b"a": None, b"b": b"2"}})
    storage.store.write({Family.CURRENT: {b"c": b"3"}})
    assert content(storage) == {b"b": b"2", b"c": b"3"}
    one_survived = storage.crash(1)
    assert content(one_survived) == {b"b": b"2"}
    with pytest.raises(StorageError):
        storage.store.write({Family.CURRENT: {b"d": b"4"}})


async def test_an_installed_state_survives_a_crash(tmp_path: Path) -> None:
    storage = MemoryStateStorage(tmp_path)
    storage.store.write({Family.CURRENT: {b"a": b"1"}})
    await storage.install(await receive(storage))
    storage.store.write({Family.CURRENT: {b"b": b"2"}})
    assert content(storage.crash()) == {b"a": b"1"}


async def test_a_crash_amid_an_installation_leaves_the_old_state(tmp_path: Path) -> None:
    disk = HeldDisk()
    storage = MemoryStateStorage(tmp_path, disk.wait)
    storage.store.write({Family.CURRENT: {b"a": b"new"}})
    received = await receive(storage)
    storage.store.write({Family.CURRENT: {b"a": b"old"}})
    await storage.sync()
    disk.hold()
    installing = asyncio.create_task(storage.install(received))
    await asyncio.sleep(0)
    restarted = storage.crash()
    assert content(restarted) == {b"a": b"old"}
    disk.release()
    with pytest.raises(StorageError):
        await installing
    assert content(restarted) == {b"a": b"old"}


async def test_a_sync_is_done_when_a_snapshot_replaces_the_state(tmp_path: Path) -> None:
    # As with RocksDB, where the sync ends before the store is closed. Found by seed 24.
    disk = HeldDisk()
    storage = MemoryStateStorage(tmp_path, disk.wait)
    received = await receive(storage)
    disk.hold()
    syncing = asyncio.create_task(storage.sync())
    await asyncio.sleep(0)
    held = disk.hold_no_more()
    await storage.install(received)
    held.set()
    await syncing
    storage.store.write({Family.CURRENT: {b"a": b"1"}})


async def test_a_damaged_row_is_refused_until_it_is_written_again(tmp_path: Path) -> None:
    storage = MemoryStateStorage(tmp_path)
    storage.store.write({Family.CURRENT: {b"a": b"1", b"b": b"2", b"c": b"3"}})
    await storage.sync()
    storage.store.write({Family.CURRENT: {b"c": b"4"}})
    for key in (b"b", b"c"):
        storage.damage(Family.CURRENT, key, 3)
    assert storage.store.get_many(Family.CURRENT, [b"a", b"c"]) == [b"1", b"4"]
    rows = storage.store.scan(Family.CURRENT, b"", None)
    assert next(rows) == (b"a", b"1")
    for read in (lambda: next(rows), lambda: storage.store.get(Family.CURRENT, b"b")):
        with pytest.raises(DamagedData, match="b'b'"):
            read()
    for verify in (storage.verification().step(), storage.verify(await storage.checkpoint(1, 1))):
        with pytest.raises(DamagedData, match="b'b'"):
            await verify
    storage.store.write({Family.CURRENT: {b"b": b"5"}})
    await storage.verification().step()
    assert content(storage) == {b"a": b"1", b"b": b"5", b"c": b"4"}


async def test_damage_on_the_disk_survives_a_crash(tmp_path: Path) -> None:
    storage = MemoryStateStorage(tmp_path)
    storage.store.write({Family.CURRENT: {b"a": b"1", b"b": b"2"}})
    await storage.sync()
    storage.store.write({Family.CURRENT: {b"b": b"3"}})
    for key in (b"a", b"b"):
        storage.damage(Family.CURRENT, key, 3)
    for surviving, of_b in ((1, b"3"), (0, None)):
        found = storage.crash(surviving).store
        with pytest.raises(DamagedData):
            found.get(Family.CURRENT, b"a")
        if of_b is None:
            with pytest.raises(DamagedData):
                found.get(Family.CURRENT, b"b")
        else:
            assert found.get(Family.CURRENT, b"b") == of_b

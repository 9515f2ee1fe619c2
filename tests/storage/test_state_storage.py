"""The contract of a state storage: sync, checkpoint and install."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from raftkv.errors import DamagedData, InvariantViolation, StorageError
from raftkv.kv.store import Family
from raftkv.storage.ports import StateStorage
from raftkv.storage.state_storage import RocksStateStorage

from .conftest import States
from .test_log_damage import flip_bit, write_ahead_log

CURRENT, META = Family.CURRENT, Family.META


def content(storage: StateStorage) -> dict[bytes, bytes]:
    return dict(storage.store.scan(CURRENT, b"", None))


async def receive(storage: StateStorage) -> Path:
    """A snapshot of the present state, as it arrives at a peer."""
    checkpoint = await storage.checkpoint(5, 2)
    received = storage.begin_receive()
    shutil.copytree(checkpoint.path, received, dirs_exist_ok=True)
    await storage.release(checkpoint)
    return received


async def test_a_checkpoint_has_its_index_term_and_files(states: States) -> None:
    states.storage.store.write({CURRENT: {b"k": b"v"}})
    checkpoint = await states.storage.checkpoint(5, 2)
    assert (checkpoint.index, checkpoint.term) == (5, 2)
    assert any(file.is_file() for file in checkpoint.path.iterdir())


async def test_checkpoints_are_frozen_and_independent(states: States) -> None:
    storage = states.storage
    storage.store.write({CURRENT: {b"k": b"1"}})
    first = await storage.checkpoint(1, 1)
    storage.store.write({CURRENT: {b"k": b"2"}})
    second = await storage.checkpoint(2, 1)
    storage.store.write({CURRENT: {b"k": b"3"}})
    received = storage.begin_receive()
    shutil.copytree(first.path, received, dirs_exist_ok=True)
    await storage.release(first)
    assert (await storage.install(received)).get(CURRENT, b"k") == b"1"
    received = storage.begin_receive()
    shutil.copytree(second.path, received, dirs_exist_ok=True)
    assert (await storage.install(received)).get(CURRENT, b"k") == b"2"


async def test_a_released_checkpoint_takes_no_space(states: States) -> None:
    checkpoint = await states.storage.checkpoint(1, 1)
    await states.storage.release(checkpoint)
    assert not checkpoint.path.exists()


async def test_an_installed_state_replaces_the_old_one_for_good(states: States) -> None:
    states.storage.store.write({CURRENT: {b"a": b"snapshot", b"b": b"snapshot"}})
    received = await receive(states.storage)
    states.storage.store.write({CURRENT: {b"a": b"later", b"c": b"later"}})
    store = await states.storage.install(received)
    assert store is states.storage.store
    assert content(states.storage) == {b"a": b"snapshot", b"b": b"snapshot"}
    store.write({CURRENT: {b"d": b"after"}})
    assert content(await states.reopen()) == {
        b"a": b"snapshot",
        b"b": b"snapshot",
        b"d": b"after",
    }


async def test_states_can_be_installed_one_after_the_other(states: States) -> None:
    for number in range(4):
        states.storage.store.write({CURRENT: {b"%d" % number: b"x"}})
        await states.storage.install(await receive(states.storage))
    assert len(content(states.storage)) == 4


async def test_the_replaced_store_refuses_writes(states: States) -> None:
    old = states.storage.store
    await states.storage.install(await receive(states.storage))
    with pytest.raises(StorageError, match="closed"):
        old.write({CURRENT: {b"k": b"v"}})


async def test_the_replaced_store_can_be_read_until_it_is_retired(states: States) -> None:
    """Its node serves stale reads while the log is being reset."""
    old = states.storage.store
    old.write({CURRENT: {b"a": b"snapshot"}})
    received = await receive(states.storage)
    old.write({CURRENT: {b"a": b"later"}})
    await states.storage.install(received)
    assert old.get(CURRENT, b"a") == b"later"
    assert list(old.scan(CURRENT, b"", None)) == [(b"a", b"later")]
    await states.storage.retire()
    with pytest.raises(StorageError):
        old.get(CURRENT, b"a")
    assert states.storage.store.get(CURRENT, b"a") == b"snapshot"


async def test_an_unfinished_snapshot_is_deleted_by_the_next_one(states: States) -> None:
    first = states.storage.begin_receive()
    (first / "part").write_bytes(b"half a file")
    assert list(states.storage.begin_receive().iterdir()) == []


async def test_an_empty_directory_is_not_installed(states: States) -> None:
    states.storage.store.write({CURRENT: {b"k": b"v"}})
    with pytest.raises(DamagedData):
        await states.storage.install(states.storage.begin_receive())
    states.storage.store.write({CURRENT: {b"l": b"w"}})
    assert content(await states.reopen()) == {b"k": b"v", b"l": b"w"}


async def test_a_received_state_that_lacks_bytes_is_not_installed(states: States) -> None:
    states.storage.store.write({CURRENT: {b"k": b"v" * 5000}})
    received = await receive(states.storage)
    data = [file for file in received.iterdir() if not file.name.startswith("OPTIONS")]
    largest = max(data, key=lambda file: file.stat().st_size)
    with largest.open("r+b") as file:
        file.truncate(largest.stat().st_size // 2)
    with pytest.raises(DamagedData):
        await states.storage.install(received)
    assert content(states.storage) == {b"k": b"v" * 5000}


async def test_disk_bytes_grow_with_the_state(states: States) -> None:
    before = states.storage.disk_bytes()
    states.storage.store.write({CURRENT: {b"k": b"v" * 100_000}})
    await states.storage.sync()
    assert states.storage.disk_bytes() - before >= 100_000


async def test_a_write_while_the_state_is_frozen_stops_the_node(tmp_path: Path) -> None:
    storage = RocksStateStorage(tmp_path / "state")
    storage.store.write({CURRENT: {b"k": b"v"}})
    freezing = asyncio.create_task(storage.checkpoint(1, 1))
    await asyncio.sleep(0)
    storage.store.write({CURRENT: {b"k": b"w"}})
    with pytest.raises(InvariantViolation, match="frozen"):
        await freezing
    await storage.close()


async def test_an_old_scan_continues_over_the_replaced_state(tmp_path: Path) -> None:
    storage = RocksStateStorage(tmp_path / "state")
    rows = {b"%05d" % number: b"v" * 100 for number in range(5000)}
    storage.store.write({CURRENT: rows})
    scan = storage.store.scan(CURRENT, b"", None)
    seen = [next(scan)]
    await storage.install(await receive(storage))
    seen += scan
    assert dict(seen) == rows
    await storage.close()


async def crashed_state(path: Path) -> Path:
    """A state of 50 runs, as a killed process leaves it."""
    storage = RocksStateStorage(path / "state")
    for run in range(1, 51):
        storage.store.write({CURRENT: {b"%03d" % run: b"v" * 300}, META: {b"applied": b"%d" % run}})
    await storage.sync()
    crashed = path / "crashed"
    shutil.copytree(path / "state", crashed)
    await storage.close()
    return crashed


async def test_a_killed_process_loses_no_run(tmp_path: Path) -> None:
    storage = RocksStateStorage(await crashed_state(tmp_path))
    assert storage.store.get(META, b"applied") == b"50"
    assert len(content(storage)) == 50
    await storage.close()


@pytest.mark.parametrize("damage", ["torn", "flipped"])
async def test_a_damaged_write_ahead_log_leaves_the_complete_runs_before_the_damage(
    tmp_path: Path, damage: str
) -> None:
    directory = await crashed_state(tmp_path)
    wal = write_ahead_log(directory / "state-1")
    if damage == "torn":
        with wal.open("r+b") as file:
            file.truncate(wal.stat().st_size - 5000)
    else:
        flip_bit(wal, wal.stat().st_size // 2)
    storage = RocksStateStorage(directory)
    applied = int(storage.store.get(META, b"applied") or b"0")
    assert 10 < applied < 50
    assert sorted(content(storage)) == [b"%03d" % run for run in range(1, applied + 1)]
    await storage.close()


async def test_damaged_bytes_of_a_table_are_never_served(tmp_path: Path) -> None:
    storage = RocksStateStorage(tmp_path / "state")
    rows = {b"%05d" % number: b"%05d" % number * 60 for number in range(1000)}
    storage.store.write({CURRENT: rows})
    await storage.close()
    table = max((tmp_path / "state/state-1").glob("*.sst"), key=lambda file: file.stat().st_size)
    flip_bit(table, table.stat().st_size // 2)
    storage = RocksStateStorage(tmp_path / "state")
    failures = 0
    for key, value in rows.items():
        try:
            assert storage.store.get(CURRENT, key) == value
        except DamagedData:
            failures += 1
    assert failures
    with pytest.raises(DamagedData, match="member replace"):
        storage.store.get_many(CURRENT, list(rows))
    for reverse in (False, True):
        with pytest.raises(DamagedData, match="member replace"):
            list(storage.store.scan(CURRENT, b"", None, reverse=reverse))
    with pytest.raises(DamagedData):
        storage.store.write({CURRENT: {b"k": b"v"}})
    await storage.close()

"""Verification detects all damage, and refuses no intact file."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from raftkv.errors import DamagedData, OutOfResources, StorageError
from raftkv.kv.store import Family
from raftkv.raft.entry import HardState
from raftkv.storage.log_store import RocksLogStore
from raftkv.storage.ports import Verification
from raftkv.storage.state_storage import RocksStateStorage
from raftkv.storage.verification import SLICE_BYTES_MIN

from .conftest import Logs, States
from .test_log_damage import crashed_log, flip_bit, write_ahead_log
from .test_log_store import entries
from .test_state_storage import content, receive

CURRENT = Family.CURRENT
ROWS = {b"%04d" % number: b"%04d" % number * 100 for number in range(1000)}


async def read_through(verification: Verification) -> int:
    """How many bytes it has read."""
    bytes_read, last = 0, False
    while not last:
        read = await verification.step()
        bytes_read, last = bytes_read + read.bytes_read, read.last
    return bytes_read


def largest_file(directory: Path) -> Path:
    data = [file for file in directory.iterdir() if not file.name.startswith(("OPTIONS", "LOG"))]
    return max(data, key=lambda file: file.stat().st_size)


def held_although_removed(directory: Path) -> list[str]:
    """Removed files below the directory that this process still has open."""
    held = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the directory just listed
            held.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [path for path in held if path.startswith(str(directory)) and "(deleted)" in path]


async def test_a_sound_log_is_read_to_the_end(logs: Logs) -> None:
    await logs.store.append(HardState(1, 1, 0), entries(1, 200, size=400))
    await logs.store.compact(50, 1, 0)
    await logs.store.append(None, entries(150, 160, term=2))
    assert await read_through(logs.store.verification()) >= 99 * 400
    assert await read_through((await logs.reopen()).verification()) > 0


async def test_a_sound_state_is_read_to_the_end(states: States) -> None:
    states.storage.store.write({CURRENT: ROWS})
    states.storage.store.write({CURRENT: dict.fromkeys(list(ROWS)[:500])})
    assert await read_through(states.storage.verification()) > 0
    storage = await states.reopen()
    assert await read_through(storage.verification()) > 500 * 400
    checkpoint = await storage.checkpoint(1, 1)
    await storage.verify(checkpoint)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
async def test_a_damaged_checkpoint_is_found(states: States, share: float) -> None:
    states.storage.store.write({CURRENT: ROWS})
    checkpoint = await states.storage.checkpoint(1, 1)
    file = largest_file(checkpoint.path)
    flip_bit(file, int(file.stat().st_size * share))
    with pytest.raises(DamagedData):
        await states.storage.verify(checkpoint)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
async def test_a_damaged_snapshot_is_refused_and_the_old_state_stands(
    states: States, share: float
) -> None:
    states.storage.store.write({CURRENT: ROWS})
    received = await receive(states.storage)
    states.storage.store.write({CURRENT: {b"later": b"kept"}})
    file = largest_file(received)
    flip_bit(file, int(file.stat().st_size * share))
    store = states.storage.store
    with pytest.raises(DamagedData):
        await states.storage.install(received)
    assert states.storage.store is store
    store.write({CURRENT: {b"last": b"kept"}})
    wanted = {**ROWS, b"later": b"kept", b"last": b"kept"}
    assert content(await states.reopen()) == wanted
    assert content(states.storage) == wanted


async def test_a_verification_begins_anew_on_a_state_that_was_installed(tmp_path: Path) -> None:
    """The verification keeps no file of the old state open, so its space is freed on `retire`."""
    storage = RocksStateStorage(tmp_path / "state")
    storage.store.write({CURRENT: {key: os.urandom(4000) for key in ROWS}})
    received = await receive(storage)
    size = await read_through(storage.verification())
    verification = storage.verification()
    assert not (await verification.step()).last
    await storage.install(received)
    await storage.retire()
    await storage.sync()  # the removal comes before it on the same thread
    assert not held_although_removed(tmp_path)
    assert await read_through(verification) > size - 100_000
    await storage.close()


async def test_overwritten_rows_are_verified_too(tmp_path: Path) -> None:
    """No get meets it, but a snapshot carries it, and a compaction stumbles over it."""
    storage = RocksStateStorage(tmp_path / "state")
    storage.store.write({CURRENT: dict.fromkeys(ROWS, b"old" * 100)})
    storage.store.database.flush()
    storage.store.write({CURRENT: ROWS})
    await storage.close()
    storage = RocksStateStorage(tmp_path / "state")
    (table, *_) = sorted((tmp_path / "state/state-1").glob("*.sst"))
    flip_bit(table, table.read_bytes().find(b"oldold"))
    assert storage.store.get_many(CURRENT, list(ROWS)) == list(ROWS.values())
    with pytest.raises(DamagedData, match=rf"{table.name} .*family current.* offset \d+"):
        await read_through(storage.verification())
    with pytest.raises(DamagedData, match=f"the table {table} of"):
        await storage.verify(await storage.checkpoint(1, 1))
    await storage.close()


def cut_short(table: Path) -> None:
    table.write_bytes(table.read_bytes()[:-1000])


def empty(table: Path) -> None:
    table.write_bytes(b"")


@pytest.mark.parametrize(("harm", "said"), [(Path.unlink, "gone"), (cut_short, "end"), (empty, "")])
async def test_a_missing_or_truncated_table_is_damage(
    tmp_path: Path, harm: Callable[[Path], None], said: str
) -> None:
    storage = RocksStateStorage(tmp_path / "state")
    storage.store.write({CURRENT: ROWS})
    storage.store.database.flush()
    (table,) = (tmp_path / "state/state-1").glob("*.sst")
    harm(table)
    with pytest.raises(DamagedData, match=f"{table.name}.*{said}"):
        await read_through(storage.verification())
    await storage.close()


async def test_tables_that_a_compaction_removes_meanwhile_are_not_missed(tmp_path: Path) -> None:
    storage = RocksStateStorage(tmp_path / "state")
    for _ in range(3):
        storage.store.write({CURRENT: {key: os.urandom(1000) for key in ROWS}})
        storage.store.database.flush()
    verification = storage.verification()
    assert not (await verification.step()).last
    storage.store.database.families[CURRENT].compact_range(None, None)
    await read_through(verification)
    await storage.close()


async def test_a_log_that_is_being_written_is_verified_as_far_as_it_goes(tmp_path: Path) -> None:
    store = RocksLogStore(tmp_path / "log")
    store.recover()

    async def write() -> None:
        for index in range(1, 200):
            await store.append(HardState(1, 1, index - 1), entries(index, index, size=3000))

    writing = asyncio.create_task(write())
    rounds = 0
    while not writing.done():
        await read_through(store.verification())
        rounds += 1
    await writing
    assert rounds > 3
    await store.close()


async def test_damage_of_the_log_on_disk_is_found_although_the_log_is_in_memory(
    tmp_path: Path,
) -> None:
    store = RocksLogStore(tmp_path / "log")
    store.recover()
    await store.append(HardState(1, 1, 0), entries(1, 100, size=400))
    (wal,) = (tmp_path / "log").glob("*.log")
    flip_bit(wal, wal.stat().st_size // 2)
    with pytest.raises(DamagedData, match=wal.name):
        await read_through(store.verification())
    await store.append(None, entries(101, 101))
    await store.close()


async def test_a_record_that_is_never_completed_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record with a damaged length looks like a record that is being written."""
    store = RocksLogStore(tmp_path / "log")
    store.recover()
    await store.append(HardState(1, 1, 0), entries(1, 3))
    (wal,) = (tmp_path / "log").glob("*.log")
    flip_bit(wal, 5)  # the length's upper half
    verification = store.verification()
    for _ in range(3):
        assert not (await verification.step()).last
    monkeypatch.setattr("raftkv.storage.verification.UNFINISHED_S_MAX", 0.0)
    with pytest.raises(DamagedData, match="longer than its file"):
        await read_through(verification)
    await store.close()


async def test_a_record_torn_by_a_power_cut_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raftkv.storage.verification.UNFINISHED_S_MAX", 0.0)
    directory = await crashed_log(tmp_path)
    with write_ahead_log(directory).open("r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - 100)
    store = RocksLogStore(directory)
    assert len(store.recover().entries) == 49
    assert await read_through(store.verification()) > 49 * 400
    await store.close()


async def test_a_slice_is_small(tmp_path: Path) -> None:
    storage = RocksStateStorage(tmp_path / "state")
    storage.store.write({CURRENT: {b"%05d" % number: os.urandom(1000) for number in range(5000)}})
    storage.store.database.flush()
    verification, last = storage.verification(), False
    while not last:
        read = await verification.step()
        last = read.last
        assert read.bytes_read < 3 * SLICE_BYTES_MIN
    await storage.close()


@pytest.mark.parametrize(
    ("number", "error"), [(errno.EIO, DamagedData), (errno.EMFILE, OutOfResources)]
)
async def test_an_error_of_the_disk_is_damage_and_a_lack_of_resources_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[StorageError]
) -> None:
    storage = RocksStateStorage(tmp_path / "state")
    storage.store.write({CURRENT: ROWS})
    storage.store.database.flush()

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(StorageError, match=os.strerror(number)) as raised:
        await read_through(storage.verification())
    assert type(raised.value) is error
    monkeypatch.undo()
    await storage.close()


async def test_a_file_system_without_direct_reads_is_read_through_the_page_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = RocksStateStorage(tmp_path / "state")
    storage.store.write({CURRENT: ROWS})
    storage.store.database.flush()
    size = await read_through(storage.verification())
    really_open = os.open

    def refuse_direct(path: str, flags: int, *mode: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return really_open(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse_direct)
    assert await read_through(storage.verification()) == size
    monkeypatch.undo()
    await storage.close()

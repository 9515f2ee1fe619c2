"""A damaged log: truncated by a power cut, or with wrong bytes."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from google_crc32c import value as crc32c
from rocksdict import Options, Rdict

from raftkv.errors import DamagedData, StorageError
from raftkv.raft.entry import HardState
from raftkv.raft.running_hash import UNKNOWN
from raftkv.storage.log_records import (
    COMPACTION_POINT_KEY,
    HARD_STATE_KEY,
    STARTS_KEY,
    encode_entry,
    entry_key,
)
from raftkv.storage.log_store import BATCH_BYTES_MAX, RocksLogStore

from .test_log_store import entries


async def crashed_log(path: Path, appends: int = 50, size: int = 400) -> Path:
    """The directory of a log as a killed process leaves it: all in the write-ahead log."""
    store = RocksLogStore(path / "log")
    store.recover()
    for index in range(1, appends + 1):
        await store.append(HardState(1, 1, index - 1), entries(index, index, size=size))
    crashed = path / "crashed"
    shutil.copytree(path / "log", crashed)
    await store.close()
    return crashed


def write_ahead_log(directory: Path) -> Path:
    return max(directory.glob("*.log"), key=lambda file: file.name)


def flip_bit(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0x10
    file.write_bytes(content)


def blank_block(file: Path, at: int) -> None:
    """As a block that a power cut has not let reach the disk, but after its sync."""
    content = bytearray(file.read_bytes())
    start = at // 4096 * 4096
    content[start : start + 4096] = bytes(4096)
    file.write_bytes(content)


def tampered(directory: Path, change: Callable[[Rdict], None]) -> None:
    database = Rdict(str(directory), Options(raw_mode=True))
    change(database)
    database.close()


async def test_a_killed_process_loses_no_append(tmp_path: Path) -> None:
    store = RocksLogStore(await crashed_log(tmp_path))
    recovered = store.recover()
    assert list(recovered.entries) == entries(1, 50, size=400)
    assert recovered.hard_state == HardState(1, 1, 49)
    await store.close()


@pytest.mark.parametrize("lost", [1, 100, 441, 442, 443, 1000, 5000])
async def test_a_torn_tail_leaves_a_prefix(tmp_path: Path, lost: int) -> None:
    directory = await crashed_log(tmp_path)
    wal = write_ahead_log(directory)
    with wal.open("r+b") as file:
        file.truncate(wal.stat().st_size - lost)
    store = RocksLogStore(directory)
    recovered = store.recover()
    kept = len(recovered.entries)
    assert 50 - 1 - lost // 400 <= kept < 50
    assert list(recovered.entries) == entries(1, kept, size=400)
    assert recovered.hard_state == HardState(1, 1, kept - 1)
    await store.append(None, entries(kept + 1, kept + 1))
    assert len(store.recover().entries) == kept + 1
    await store.close()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
async def test_a_bit_flip_within_the_write_ahead_log_is_refused(
    tmp_path: Path, share: float
) -> None:
    directory = await crashed_log(tmp_path)
    wal = write_ahead_log(directory)
    flip_bit(wal, int(wal.stat().st_size * share))
    with pytest.raises(DamagedData, match="member replace"):
        RocksLogStore(directory)


@pytest.mark.parametrize("change", [flip_bit, blank_block])
async def test_damage_to_the_last_acknowledged_append_is_refused(
    tmp_path: Path, change: Callable[[Path, int], None]
) -> None:
    directory = await crashed_log(tmp_path, appends=2, size=20_000)
    wal = write_ahead_log(directory)
    change(wal, wal.stat().st_size - 10_000)
    with pytest.raises(DamagedData, match="member replace"):
        RocksLogStore(directory)


async def test_a_bit_flip_in_a_table_file_is_refused(tmp_path: Path) -> None:
    store = RocksLogStore(tmp_path / "log")
    store.recover()
    await store.append(HardState(1, 1, 0), entries(1, 300, size=400))
    await store.close()
    (table,) = (tmp_path / "log").glob("*.sst")
    flip_bit(table, 50_000)
    damaged = RocksLogStore(tmp_path / "log")
    with pytest.raises(DamagedData, match="checksum mismatch"):
        damaged.recover()
    with pytest.raises(StorageError):
        await damaged.append(None, entries(1, 1))
    await damaged.close()


async def test_an_entry_whose_own_checksum_fails_is_named(tmp_path: Path) -> None:
    directory = await crashed_log(tmp_path, appends=5)
    record = bytearray(encode_entry(entries(3, 3)[0]))
    record[-1] ^= 1
    tampered(directory, lambda log: log.put(entry_key(3), bytes(record)))
    store = RocksLogStore(directory)
    with pytest.raises(DamagedData, match=r"entry 3 .*member replace"):
        store.recover()
    await store.close()


async def test_an_entry_under_another_index_is_refused(tmp_path: Path) -> None:
    directory = await crashed_log(tmp_path, appends=5)
    tampered(directory, lambda log: log.put(entry_key(3), encode_entry(entries(4, 4)[0])))
    store = RocksLogStore(directory)
    with pytest.raises(DamagedData, match="entry 3"):
        store.recover()
    await store.close()


async def test_a_missing_entry_is_named(tmp_path: Path) -> None:
    directory = await crashed_log(tmp_path, appends=5)
    tampered(directory, lambda log: log.delete(entry_key(3)))
    store = RocksLogStore(directory)
    with pytest.raises(DamagedData, match=r"entry 3 \(missing before entry 4"):
        store.recover()
    await store.close()


async def test_a_damaged_vote_is_refused(tmp_path: Path) -> None:
    directory = await crashed_log(tmp_path, appends=1)
    tampered(directory, lambda log: log.put(HARD_STATE_KEY, b"\0" * 28))
    store = RocksLogStore(directory)
    with pytest.raises(DamagedData, match="hard state"):
        store.recover()
    await store.close()


@pytest.mark.parametrize("record", [b"", b"\0" * 4, b"\0" * 20, b"\0" * 28])
@pytest.mark.parametrize(
    ("key", "names"),
    [(STARTS_KEY, "record of starts"), (COMPACTION_POINT_KEY, "compaction point")],
)
async def test_a_damaged_record_is_named(
    tmp_path: Path, key: bytes, names: str, record: bytes
) -> None:
    directory = await crashed_log(tmp_path, appends=1)
    tampered(directory, lambda log: log.put(key, record))
    store = RocksLogStore(directory)
    with pytest.raises(DamagedData, match=names):
        store.recover()
    await store.close()


async def test_the_compaction_point_of_0_1_0_has_no_hash(tmp_path: Path) -> None:
    directory = await crashed_log(tmp_path, appends=1)
    body = struct.pack(">QQ", 0, 0)
    record = struct.pack(">I", crc32c(body)) + body
    tampered(directory, lambda log: log.put(COMPACTION_POINT_KEY, record))
    store = RocksLogStore(directory)
    recovered = store.recover()
    assert (recovered.compacted_index, recovered.compacted_hash) == (0, UNKNOWN)
    assert len(recovered.entries) == 1
    await store.close()


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST-*"])
async def test_a_log_without_its_catalogue_is_not_taken_for_a_new_one(
    tmp_path: Path, name: str
) -> None:
    directory = await crashed_log(tmp_path, appends=5)
    for file in directory.glob(name):
        file.unlink()
    with pytest.raises(DamagedData):
        RocksLogStore(directory)


async def test_a_torn_append_of_many_batches_is_a_prefix_with_the_old_commit_index(
    tmp_path: Path,
) -> None:
    store = RocksLogStore(tmp_path / "log")
    store.recover()
    await store.append(HardState(1, 1, 1), entries(1, 4))
    large = entries(2, 9, term=2, size=BATCH_BYTES_MAX // 2)
    await store.append(HardState(2, 1, 9), large)
    crashed = tmp_path / "crashed"
    shutil.copytree(tmp_path / "log", crashed)
    await store.close()
    wal = write_ahead_log(crashed)
    with wal.open("r+b") as file:
        file.truncate(wal.stat().st_size - 10)
    torn = RocksLogStore(crashed)
    recovered = torn.recover()
    kept = len(recovered.entries)
    assert 1 < kept < 9
    assert list(recovered.entries) == entries(1, 1) + large[: kept - 1]
    assert recovered.hard_state == HardState(2, 1, 1)
    await torn.close()

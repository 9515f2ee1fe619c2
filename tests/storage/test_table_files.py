"""Every wrong byte of a table, a write-ahead log or a MANIFEST is detected."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rocksdict import BlockBasedOptions, DBCompressionType, Options, Rdict, WriteBatch

from raftkv.errors import DamagedData
from raftkv.storage.record_file import verify_records
from raftkv.storage.rocks import RocksDatabase, Tuning
from raftkv.storage.table_file import FORMAT_VERSION, DiskReader, verify_table
from raftkv.storage.verification import verify_closed_database

TUNING = Tuning(
    write_buffer_bytes=16 << 20,
    write_buffers_max=4,
    write_buffers_total_bytes=64 << 20,
    cache_bytes=1 << 20,
    wal_total_bytes=64 << 20,
    refuse_damaged_wal=True,
)
FAMILY = "default"


def written(path: Path, fill: Callable[[WriteBatch], None]) -> Path:
    """The one table that a batch becomes."""
    database = RocksDatabase(path, [FAMILY], TUNING, create=True)
    batch = WriteBatch(raw_mode=True)
    fill(batch)
    database.write(batch)
    database.flush()
    database.close()
    (table,) = path.glob("*.sst")
    return table


def rows(batch: WriteBatch) -> None:
    for number in range(60):
        batch.put(b"%04d" % number, os.urandom(300))


def tombstones_alone(batch: WriteBatch) -> None:
    for number in range(100):
        batch.delete(b"%04d" % number)


def a_range_of_tombstones_alone(batch: WriteBatch) -> None:
    batch.delete_range(b"0", b"9")


def everything(batch: WriteBatch) -> None:
    rows(batch)
    tombstones_alone(batch)
    batch.delete_range(b"0003", b"0007")
    batch.put(b"large", os.urandom(20_000))


def size_of(path: Path) -> int:
    return sum(verify_table(path, DiskReader()))


@pytest.mark.parametrize("fill", [rows, tombstones_alone, a_range_of_tombstones_alone, everything])
def test_every_byte_of_a_table_is_covered(
    tmp_path: Path, fill: Callable[[WriteBatch], None]
) -> None:
    table = written(tmp_path / "db", fill)
    content = table.read_bytes()
    assert size_of(table) == len(content)
    missed = []
    # A sample of all bytes, and each byte at the end: meta blocks, metaindex, footer.
    offsets = {*range(0, len(content), 1 + len(content) // 800), *range(len(content))[-900:]}
    with table.open("r+b") as file:
        for offset in sorted(offsets):
            os.pwrite(file.fileno(), bytes((content[offset] ^ 0x10,)), offset)
            try:
                size_of(table)
                missed.append(offset)
            except DamagedData:
                pass
            os.pwrite(file.fileno(), content[offset : offset + 1], offset)
    assert not missed
    assert size_of(table) == len(content)


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table whose index is compressed as well, as on the lower levels of a large database."""
    options = Options(raw_mode=True)
    options.set_compression_type(DBCompressionType.lz4())
    blocks = BlockBasedOptions()
    blocks.set_format_version(FORMAT_VERSION)
    options.set_block_based_table_factory(blocks)
    path = tmp_path_factory.mktemp("compressed") / "db"
    database = Rdict(str(path), options)
    for number in range(20_000):
        database.put(b"users/%08d/profile" % number, b"value" * 40)
    database.flush()
    database.close()
    (table,) = path.glob("*.sst")
    assert table.stat().st_size < 20_000 * 100
    return table


@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_bit_flip_in_a_compressed_table_is_detected(
    compressed: Path, share: float, bit: int
) -> None:
    content = compressed.read_bytes()
    assert size_of(compressed) == len(content)
    offset = int(share * len(content))
    with compressed.open("r+b") as file:
        os.pwrite(file.fileno(), bytes((content[offset] ^ 1 << bit,)), offset)
        try:
            with pytest.raises(DamagedData):
                size_of(compressed)
        finally:
            os.pwrite(file.fileno(), content[offset : offset + 1], offset)


@pytest.fixture(scope="module")
def record_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a write-ahead log and a MANIFEST hold."""
    path = tmp_path_factory.mktemp("records") / "db"
    database = RocksDatabase(path, [FAMILY], TUNING, create=True)
    for number in range(40):
        batch = WriteBatch(raw_mode=True)
        batch.put(b"%04d" % number, os.urandom(5000))  # some go over the end of a block
        database.write(batch)
    database.sync()
    (log,), (manifest,) = path.glob("*.log"), path.glob("MANIFEST-*")
    found = {"log": log.read_bytes(), "MANIFEST": manifest.read_bytes()}
    database.close()
    return found


def read_to_the_end(path: Path) -> int | None:
    """Where the record begins that the end of the file cuts short."""
    reading = verify_records(path)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            cut_short_at: int | None = end.value
            return cut_short_at


@pytest.mark.parametrize("name", ["log", "MANIFEST"])
def test_every_byte_of_a_file_of_records_is_covered(
    tmp_path: Path, record_files: dict[str, bytes], name: str
) -> None:
    content, copy, missed = record_files[name], tmp_path / name, []
    copy.write_bytes(content)
    assert read_to_the_end(copy) is None
    for offset in range(0, len(content), 1 + len(content) // 1500):
        copy.write_bytes(
            content[:offset] + bytes((content[offset] ^ 0x10,)) + content[offset + 1 :]
        )
        try:
            # A length beyond the end of the file looks like a record that is not finished yet.
            if read_to_the_end(copy) is None:
                missed.append(offset)
        except DamagedData:
            pass
    assert not missed


def test_an_incomplete_record_and_preallocated_space_are_no_damage(
    tmp_path: Path, record_files: dict[str, bytes]
) -> None:
    content, copy = record_files["log"], tmp_path / "copy.log"
    for lost in (1, 2000, 4990):
        copy.write_bytes(content[:-lost])
        assert len(content) - 5100 < (read_to_the_end(copy) or 0) < len(content) - lost
    copy.write_bytes(content + bytes(100_000))
    assert read_to_the_end(copy) is None


@pytest.mark.parametrize("hole", [32 << 10, 64 << 10])
def test_a_missing_entry_is_damage(
    tmp_path: Path, record_files: dict[str, bytes], hole: int
) -> None:
    content, copy = record_files["log"], tmp_path / "copy.log"
    copy.write_bytes(content[:hole] + bytes(32 << 10) + content[hole + (32 << 10) :])
    with pytest.raises(DamagedData, match="blank"):
        read_to_the_end(copy)


def test_a_table_that_was_replaced_by_another_complete_one_passes_verification(
    tmp_path: Path,
) -> None:
    """Verification checks bytes. Opening the database checks that the tables belong to it."""
    table = written(tmp_path / "db", rows)
    table.write_bytes(written(tmp_path / "other", everything).read_bytes())
    assert sum(verify_closed_database(tmp_path / "db")) > table.stat().st_size


@given(offset=st.integers(0, 20_000), size=st.integers(1, 20_000))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_reader_returns_what_is_there(tmp_path: Path, offset: int, size: int) -> None:
    file, content = tmp_path / "file", bytes(range(256)) * 60
    file.write_bytes(content)
    assert bytes(DiskReader().read(file, offset, size)) == content[offset : offset + size]

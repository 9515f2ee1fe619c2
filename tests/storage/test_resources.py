"""A lack of descriptors fails reads, and the store continues when descriptors are available."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from raftkv.errors import DamagedData, Outcome, OutOfResources, StorageError
from raftkv.files import from_os_error, translated
from raftkv.kv.store import Family
from raftkv.storage.rocks import translated_error
from raftkv.storage.state_store import RocksStateStore

# More tables than RocksDB keeps open at the least, so that a read has to open one.
WITHOUT_DESCRIPTORS = """
import os, pathlib, resource, sys
from raftkv.errors import OutOfResources
from raftkv.kv.store import Family
from raftkv.storage.state_store import RocksStateStore

store = RocksStateStore(pathlib.Path(sys.argv[1]), create=True, open_tables_max=10)
current = store.database.families[Family.CURRENT]
for table in range(60):
    store.write({Family.CURRENT: {b"%03d/%d" % (table, row): b"v" for row in range(10)}})
    current.flush(True)

before = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
failed = 0
for table in range(60):
    try:
        store.get(Family.CURRENT, b"%03d/1" % table)
    except OutOfResources as error:
        failed += 1
        assert "ulimit -n" in error.message
        assert error.outcome.name == "SAFE_TO_RETRY"
assert failed, "every table was open"
store.write({Family.CURRENT: {b"written": b"meanwhile"}})
resource.setrlimit(resource.RLIMIT_NOFILE, before)
for table in range(60):
    assert store.get(Family.CURRENT, b"%03d/1" % table) == b"v"
assert store.get(Family.CURRENT, b"written") == b"meanwhile"
store.database.sync()
store.database.close()
"""


def test_a_read_without_descriptors_fails_and_the_store_continues(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DESCRIPTORS, str(tmp_path / "state")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN])
def test_a_lack_of_resources_is_distinguished_from_a_broken_disk(
    number: int, tmp_path: Path
) -> None:
    error = OSError(number, "no more")
    assert type(from_os_error(error, "reading", tmp_path)) is OutOfResources
    with pytest.raises(OutOfResources), translated("reading", tmp_path):
        raise error


def test_messages_of_rocksdb_for_a_lack_of_descriptors_are_recognised(tmp_path: Path) -> None:
    words = Exception("IO error: While open a file for random read: 7.sst: Too many open files")
    error = translated_error(words, "reading", tmp_path)
    assert type(error) is OutOfResources
    assert error.outcome is Outcome.SAFE_TO_RETRY


@pytest.fixture
def store(tmp_path: Path) -> RocksStateStore:
    return RocksStateStore(tmp_path / "state", create=True)


def test_unreadable_bytes_are_damage(store: RocksStateStore) -> None:
    words = Exception("IO error: While pread offset 0 len 9: 7.sst: Input/output error")
    assert type(store.database.read_failed(words, "reading")) is DamagedData
    with pytest.raises(DamagedData):
        store.write({Family.CURRENT: {b"k": b"v"}})
    store.database.close()


def test_a_read_that_failed_with_an_unknown_error_does_not_end_writes(
    store: RocksStateStore,
) -> None:
    assert type(store.database.read_failed(Exception("strange"), "reading")) is StorageError
    store.write({Family.CURRENT: {b"k": b"v"}})
    store.database.close()


def test_a_failed_write_of_any_cause_is_the_last_one(store: RocksStateStore) -> None:
    store.database.failed(Exception("IO error: Too many open files"), "writing")
    with pytest.raises(OutOfResources):
        store.write({Family.CURRENT: {b"k": b"v"}})
    store.database.close()

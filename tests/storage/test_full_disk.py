"""A full disk: the store raises `DiskFull`, refuses writes, and keeps all acknowledged data.

A process of its own has its files' size limited; RocksDB sees what it sees on a full disk.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from raftkv.errors import DiskFull
from raftkv.kv.store import Family
from raftkv.storage.log_store import RocksLogStore
from raftkv.storage.rocks import translated_error
from raftkv.storage.state_storage import RocksStateStorage

LIMIT = """
import asyncio, pathlib, resource, signal, sys
from raftkv.errors import DiskFull, StorageError
path = pathlib.Path(sys.argv[1])

def disk_fills_up():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
"""

LOG = (
    LIMIT
    + """
from raftkv.raft.entry import Entry, EntryKind
from raftkv.storage.log_store import RocksLogStore

async def main():
    log = RocksLogStore(path)
    log.recover()
    disk_fills_up()
    index = 0
    try:
        while True:
            await log.append(None, [Entry(1, index + 1, EntryKind.COMMANDS, b"v" * 10_000)])
            index += 1
    except DiskFull as error:
        print(index, error.message)
    try:
        await log.append(None, [Entry(1, index + 1, EntryKind.NOOP)])
    except DiskFull:
        print("refused")
    await log.close()

asyncio.run(main())
"""
)

STATE = (
    LIMIT
    + """
from raftkv.kv.store import Family
from raftkv.storage.state_storage import RocksStateStorage

async def main():
    state = RocksStateStorage(path)
    disk_fills_up()
    run = 0
    try:
        while True:
            state.store.write({Family.CURRENT: {b"%05d" % run: b"v" * 10_000}})
            await state.sync()
            run += 1
    except DiskFull as error:
        print(run, error.message)
    try:
        state.store.write({Family.CURRENT: {b"k": b"v"}})
    except DiskFull:
        print("refused")
    assert state.store.get(Family.CURRENT, b"00000") == b"v" * 10_000
    await state.close()

asyncio.run(main())
"""
)


def fill(program: str, path: Path) -> int:
    """The number of acknowledged writes before the disk was full."""
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "free space on this disk" in first
    assert second == "refused"
    return int(first.split()[0])


async def test_a_log_on_a_full_disk_keeps_acknowledged_entries(tmp_path: Path) -> None:
    promised = await asyncio.to_thread(fill, LOG, tmp_path / "log")
    log = RocksLogStore(tmp_path / "log")
    kept = [entry.index for entry in log.recover().entries]
    assert promised > 10
    assert kept[:promised] == list(range(1, promised + 1))
    await log.close()


async def test_a_state_on_a_full_disk_keeps_what_was_synced(tmp_path: Path) -> None:
    promised = await asyncio.to_thread(fill, STATE, tmp_path / "state")
    state = RocksStateStorage(tmp_path / "state")
    kept = [key for key, _ in state.store.scan(Family.CURRENT, b"", None)]
    assert promised > 10
    assert kept[:promised] == [b"%05d" % run for run in range(promised)]
    await state.close()


def test_messages_of_rocksdb_for_a_full_disk_are_recognised(tmp_path: Path) -> None:
    words = Exception("IO error: No space left on device: While appending to file: 7.log")
    assert isinstance(translated_error(words, "writing", tmp_path), DiskFull)

"""The workload that is recorded: one node's stores, driven as the node drives them.

`python -m jepsen_lite.power_cuts.workload ROOT SEED STEPS [MUTANT]` runs it on the real stores
below ROOT/node, with its notes in ROOT/notes. A second node, beside ROOT and not recorded, makes
the snapshots that are installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from unittest import mock

import google_crc32c

from jepsen_lite.power_cuts.mutants import STORAGE_MUTANTS
from jepsen_lite.power_cuts.notes import NoteFile, pack_entries, pack_hard_state
from jepsen_lite.power_cuts.random_commands import RandomCommands
from jepsen_lite.power_cuts.stored_node import LogWrapper, StoredNode, open_node
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.peer.snapshot_receive import SnapshotFiles
from raftkv.raft.entry import Entry, EntryKind, HardState
from raftkv.raft.log import Log
from raftkv.rpc.v1 import peer_pb2
from raftkv.storage import log_store, state_store
from raftkv.storage.log_store import RocksLogStore
from raftkv.storage.ports import LogStore, RecoveredLog, Starts, Verification
from raftkv.storage.state_storage import RocksStateStorage

NODE = "node"
"""The data directory, below the recorded directory."""

_CHUNK_BYTES = 64 << 10
_MEMTABLE_BYTES = 64 << 10
"""Small, so that RocksDB flushes and compacts in a short run."""


class NotedLogStore:
    """A `LogStore` that notes each request and each acknowledgement."""

    def __init__(self, log: RocksLogStore, notes: NoteFile) -> None:
        self._log, self._notes = log, notes

    def recover(self) -> RecoveredLog:
        return self._log.recover()

    async def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        packed, packed_state = pack_entries(entries), pack_hard_state(hard_state)
        self._notes.begin("append", hard_state=packed_state, entries=packed)
        await self._log.append(hard_state, entries)
        self._notes.acknowledged("append")

    async def compact(self, through_index: int, through_term: int, through_hash: int) -> None:
        self._notes.begin("compact", point=[through_index, through_term, through_hash])
        await self._log.compact(through_index, through_term, through_hash)
        self._notes.acknowledged("compact")

    async def reset(self, index: int, term: int, hash_there: int) -> None:
        self._notes.begin("reset", point=[index, term, hash_there])
        await self._log.reset(index, term, hash_there)
        self._notes.acknowledged("reset")

    async def write_starts(self, starts: Starts) -> None:
        self._notes.begin("starts", number=starts.own.number)
        await self._log.write_starts(starts)
        self._notes.acknowledged("starts")

    def verification(self) -> Verification:
        return self._log.verification()

    async def close(self) -> None:
        await self._log.close()


class _Noting(LogWrapper):
    def __init__(self, notes: NoteFile) -> None:
        self._notes = notes

    def wrapped(self, log: RocksLogStore) -> LogStore:
        return NotedLogStore(log, self._notes)

    def member(self) -> None:
        self._notes.acknowledged("member")


class SnapshotSource:
    """The other node: it has applied the committed entries, and sends its state."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self._storage = RocksStateStorage(path / "state")
        self._machine = StateMachine(self._storage.store, Limits())

    def apply(self, entries: Sequence[Entry], log_hash: int) -> None:
        self._machine.apply(entries, log_hash)

    async def send(self, files: Path) -> None:
        """Receive the present state into `files`, in chunks, as a peer's receiver does."""
        checkpoint = await self._storage.checkpoint(
            self._machine.applied_index, self._machine.applied_term
        )
        sources = sorted(each for each in checkpoint.path.rglob("*") if each.is_file())
        receiving = SnapshotFiles(files, sum(each.stat().st_size for each in sources))
        for source in sources:
            content, name = source.read_bytes(), str(source.relative_to(checkpoint.path))
            for start in range(0, max(1, len(content)), _CHUNK_BYTES):
                data = content[start : start + _CHUNK_BYTES]
                checksum = google_crc32c.value(data)
                receiving.add(
                    peer_pb2.SnapshotChunk(file=name, offset=start, data=data, crc32c=checksum)
                )
        receiving.finish()
        await self._storage.release(checkpoint)

    async def close(self) -> None:
        await self._storage.close()


class StorageWorkload:
    """Steps that are drawn from a seed. Only acknowledged work is built upon, as a node does."""

    def __init__(self, root: Path, seed: int) -> None:
        self._rng = Random(f"{seed}/power-cuts")
        self._commands = RandomCommands(Random(f"{seed}/power-cuts/commands"))
        self._path = root / NODE
        self._notes = NoteFile(root)
        self._source = SnapshotSource(root.with_name(f"{root.name}-source"))
        self._hard_state = HardState()
        self._log = Log()
        self._node: StoredNode

    async def run(self, steps: int) -> None:
        """The first start, and then so many steps."""
        await self._start()
        kinds = (
            *[self._append] * 8,
            *[self._commit_and_apply] * 6,
            *[self._sync] * 2,
            *(self._vote, self._truncate, self._compact, self._checkpoint, self._install),
            *(self._restart, self._large_append),
        )
        for _ in range(steps):
            await self._rng.choice(kinds)()
        await self._source.close()
        await self._node.close()

    async def _start(self) -> None:
        self._node = await open_node(self._path, self._rng, _Noting(self._notes))
        raft = self._node.recovered.raft
        self._log = raft.log
        self._hard_state = HardState(raft.current_term, raft.voted_for, raft.commit_index)

    @property
    def _machine(self) -> StateMachine:
        return self._node.recovered.machine

    async def _write(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        await self._node.log.append(hard_state, entries)
        first = entries[0].index if entries else self._log.last_index + 1
        self._log = Log(
            self._log.compacted_index,
            self._log.compacted_term,
            [*self._entries(self._log.first_index, first), *entries],
            self._log.compacted_hash,
        )
        if hard_state is not None:
            self._hard_state = hard_state

    def _drawn(self, first: int, count: int, term: int) -> list[Entry]:
        return [
            Entry(term, index, EntryKind.COMMANDS, self._commands.payload())
            for index in range(first, first + count)
        ]

    def _entries(self, start: int, stop: int) -> Sequence[Entry]:
        return self._log.entries(start, stop, sys.maxsize)

    async def _append(self) -> None:
        count = self._rng.choice((1, 1, 2, 6))
        entries = self._drawn(self._log.last_index + 1, count, self._hard_state.current_term)
        await self._write(None, entries)

    async def _large_append(self) -> None:
        """More than the log writes at once; only the last entry reaches the commit index."""
        first = self._log.last_index + 1
        term = self._hard_state.current_term + 1
        entries = [
            Entry(term, first + number, EntryKind.COMMANDS, self._commands.payload(400_000))
            for number in range(4)
        ]
        await self._write(HardState(term, 0, first + 3), entries)

    async def _vote(self) -> None:
        term = self._hard_state.current_term + self._rng.choice((1, 2))
        voted_for = self._rng.choice((0, 1, 2))
        await self._write(replace(self._hard_state, current_term=term, voted_for=voted_for), [])

    async def _truncate(self) -> None:
        """A leader of a new term replaces the entries that are not committed."""
        commit_index, last_index = self._hard_state.commit_index, self._log.last_index
        if last_index == commit_index:
            return
        first = self._rng.randint(commit_index + 1, last_index)
        term = self._hard_state.current_term + 1
        entries = self._drawn(first, self._rng.choice((1, 2)), term)
        await self._write(HardState(term, 0, commit_index), entries)

    async def _commit_and_apply(self) -> None:
        """Apply newly committed entries. Half of the time the commit index is written first."""
        applied = self._machine.applied_index
        through = self._rng.randint(
            max(applied, self._hard_state.commit_index), self._log.last_index
        )
        hard_state = replace(self._hard_state, commit_index=through)
        if self._rng.random() < 0.5:
            await self._write(hard_state, [])
        else:
            self._hard_state = hard_state  # only a hint, which the next write takes along
        entries = self._entries(applied + 1, through + 1)
        if entries:
            self._notes.begin("apply", through=through)
            self._machine.apply(entries, self._log.hash(through) or 0)
            self._notes.acknowledged("apply")
            self._source.apply(entries, self._log.hash(through) or 0)

    async def _sync(self) -> None:
        self._notes.begin("sync")
        await self._node.state.sync()
        self._notes.acknowledged("sync")

    async def _compact(self) -> None:
        """As the node's log compaction: up to a synced state, and some entries stay."""
        applied = self._machine.applied_index
        index = max(self._log.compacted_index, applied - self._rng.choice((0, 3, 10)))
        if index == self._log.compacted_index:
            return
        await self._sync()
        term, log_hash = self._log.term(index), self._log.hash(index)
        await self._node.log.compact(index, term or 0, log_hash or 0)
        self._log = Log(
            index, term or 0, self._entries(index + 1, self._log.last_index + 1), log_hash or 0
        )

    async def _checkpoint(self) -> None:
        """As for a peer: a checkpoint is made, verified and released."""
        state = self._node.state
        checkpoint = await state.checkpoint(self._machine.applied_index, self._machine.applied_term)
        await state.verify(checkpoint)
        await state.release(checkpoint)

    async def _install(self) -> None:
        """A leader of a later term sends a snapshot that is ahead of this log."""
        await self._commit_all()
        term = self._hard_state.current_term + 1
        ahead = self._drawn(self._log.last_index + 1, self._rng.choice((1, 5)), term)
        other = Log(
            self._log.last_index,
            self._log.last_term,
            ahead,
            self._log.hash(self._log.last_index) or 0,
        )
        index, log_hash = other.last_index, other.hash(other.last_index) or 0
        self._source.apply(ahead, log_hash)
        await self._write(HardState(term, 0, self._hard_state.commit_index), [])
        state = self._node.state
        files = state.begin_receive()
        await self._source.send(files)
        await state.verify_received(files)
        self._notes.begin("install", entries=pack_entries(ahead))
        store = await state.install(files)
        self._notes.acknowledged("install")
        await self._node.log.reset(index, term, log_hash)
        self._node.recovered = replace(self._node.recovered, machine=StateMachine(store, Limits()))
        await state.retire()
        self._log = Log(index, term, (), log_hash)
        self._hard_state = replace(self._hard_state, commit_index=index)

    async def _commit_all(self) -> None:
        self._hard_state = replace(self._hard_state, commit_index=self._log.last_index)
        await self._commit_and_apply()

    async def _restart(self) -> None:
        await self._node.close()
        await self._start()


def main() -> None:
    """Run the workload of the command line."""
    os.umask(0o077)  # as `raftkv serve`
    root, seed, steps, *mutants = sys.argv[1:]
    buffers = {"write_buffer_bytes": _MEMTABLE_BYTES, "write_buffers_total_bytes": 0}
    with contextlib.ExitStack() as patches:
        for module in (log_store, state_store):
            tuning = replace(module._TUNING, **buffers)
            patches.enter_context(mock.patch.object(module, "_TUNING", tuning))
        for name in mutants:
            patches.enter_context(STORAGE_MUTANTS[name].planted())
        asyncio.run(StorageWorkload(Path(root), int(seed)).run(int(steps)))


if __name__ == "__main__":
    main()

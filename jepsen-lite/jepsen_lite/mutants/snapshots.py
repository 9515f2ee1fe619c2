"""Planted bugs in snapshots, log compaction and what is read back from a disk."""

from __future__ import annotations

import struct
from pathlib import Path

from jepsen_lite.mutants.mutant import Patch, mutant
from raftkv.kv.store import Family
from raftkv.storage import log_records, memory
from raftkv.storage.memory import MemoryStateStorage
from raftkv.storage.memory_state import MemoryStateStore
from raftkv.storage.ports import Checkpoint, Require, anything


@mutant(
    "snapshot leaves out the sessions' memory",
    "snapshots",
    caught_by="hold different states after entry|differs from the model",
)
def snapshot_without_sessions() -> list[Patch]:
    """A snapshot of the keys alone: a write that its client sends again runs twice, for the node
    does not know it.
    """
    return [(memory, "received_state", _without(Family.SESSIONS))]


@mutant(
    "snapshot index advances without its data",
    "snapshots",
    caught_by="hold different states after entry|its revision|differs from the model",
)
def snapshot_without_data() -> list[Patch]:
    """nodedb #162: the node takes over how far the snapshot goes, and keeps the keys it had."""
    install = MemoryStateStorage.install

    async def keep(
        self: MemoryStateStorage, received: Path, require: Require = anything
    ) -> memory._JournaledStore:
        before = self._synced.copy()
        store = await install(self, received, require)
        present = {family: dict(store.scan(family, b"", None)) for family in Family}
        for family in (Family.CURRENT, Family.HISTORY, Family.CHANGES):
            kept = dict(before.scan(family, b"", None))
            gone = dict.fromkeys(present[family])
            store.write({family: {**gone, **kept}})
        return store

    return [(MemoryStateStorage, "install", keep)]


@mutant(
    "snapshot and log leave a gap at restart",
    "snapshots",
    caught_by="compacted its log up to .* would leave its state at",
)
def log_goes_before_the_state_is_safe() -> list[Patch]:
    """redisraft #43: the log is cut off before what it made is on the disk. After a power cut the
    state ends before the log begins.
    """

    async def sync(self: MemoryStateStorage) -> None:
        await self._wait_for_disk()

    return [(MemoryStateStorage, "sync", sync)]


@mutant("damaged bytes accepted", "bit-rot", caught_by="log matching: ")
def damaged_bytes_accepted() -> list[Patch]:
    """etcd PR 11924: what the disk returns is believed, whatever its checksum says."""

    def opened(record: bytes, size_min: int, what: str) -> bytes:
        return record[struct.calcsize(">I") :]

    return [(log_records, "_opened", opened)]


@mutant("damaged bytes accepted", "damage", caught_by="sends a damaged snapshot")
def snapshot_sent_unverified() -> list[Patch]:
    """raftkv itself, once: a node with damaged tables is the source of new nodes."""

    async def verify(self: MemoryStateStorage, checkpoint: Checkpoint) -> None:
        pass

    return [(MemoryStateStorage, "verify", verify)]


@mutant("damaged bytes accepted", "damage", caught_by="damage in its state that came with")
def snapshot_installed_unverified() -> list[Patch]:
    """The other half: what was damaged on its way becomes a node's own."""
    return [(memory, "received_state", memory.read_state)]


def _without(family: Family) -> object:
    load = memory.received_state

    def load_the_rest(received: Path) -> MemoryStateStore:
        store = load(received)
        store.write({family: dict.fromkeys(dict(store.scan(family, b"", None)))})
        return store

    return load_the_rest


MUTANTS = (
    snapshot_without_sessions,
    snapshot_without_data,
    log_goes_before_the_state_is_safe,
    damaged_bytes_accepted,
    snapshot_sent_unverified,
    snapshot_installed_unverified,
)

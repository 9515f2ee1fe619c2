"""The data directory of one node of a new cluster, made from a backup.

It is run once per node, on any machine, and every run with the same file, name, members and restore
id makes the same state, log and membership. The incarnation and the disk ids are digests of these
four, and of nothing else:

- A directory of another file, list or restore id belongs to another cluster: the nodes refuse each
  other, and never mix two histories. The restore id is random, so a second restore from the same
  file does not meet the nodes of the first one.
- No node of the old cluster is admitted: its incarnation is another one.
- The membership names the disk of every member, so an empty disk in place of a restored one is
  refused, as in any cluster.

Log and state end at the index and the term of the backup. No node of the new cluster has voted in
that term, and none has an entry beyond it, so the directories stand for nodes that have agreed on
everything and were stopped. They are members at once, with no founding, and the first election is
in the next term.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from raftkv.backup.file import BackupReader, BackupRow
from raftkv.config import cluster_id_of
from raftkv.errors import ConfigurationError, DamagedBackup, InvalidRequest
from raftkv.files import make_private
from raftkv.kv.meta import Meta
from raftkv.kv.restoration import NewCluster, Restoration
from raftkv.kv.store import Family
from raftkv.raft.entry import Address, HardState, Membership
from raftkv.storage.directory import DataDirectory, open_directory
from raftkv.storage.identity import DirectoryIdentity, Stage
from raftkv.storage.log_store import RocksLogStore
from raftkv.storage.state_storage import RocksStateStorage
from raftkv.storage.state_store import RocksStateStore
from raftkv.versions import SUPPORTED

BATCH_BYTES_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """The new cluster, as its operator names it: the same for every node of it."""

    cluster_name: str
    members: Mapping[int, Address]
    restore_id: str

    def cluster_of(self, backup_id: bytes) -> NewCluster:
        """The new cluster, from the backup with this id."""
        members = dict(sorted(self.members.items()))
        lines = [
            *(backup_id.hex(), self.cluster_name, self.restore_id),
            *(f"{id}={at.peer}/{at.client}" for id, at in members.items()),
        ]
        seed = hashlib.sha256("\n".join(["raftkv restore 1", *lines]).encode()).digest()
        disk_ids = {id: _number(seed, f"disk {id}") for id in members}
        return NewCluster(
            _number(seed, "incarnation"),
            Membership(voters=frozenset(members), addresses=members, disk_ids=disk_ids),
        )


@dataclass(frozen=True, slots=True)
class Restored:
    """What the new state has."""

    incarnation: int
    revision: int
    applied_index: int
    keys: int
    keys_of_leases: int


def check_rows(reader: BackupReader, key: bytes | None) -> Restoration:
    """Read the whole backup as a restore would, and write nothing.

    Returns what a restore counts. Raises as `BackupReader.rows`.
    """
    restoration = Restoration(NewCluster(1, Membership()))
    for _ in _restored_rows(reader, key, restoration):
        pass
    return restoration


async def restore(
    reader: BackupReader, key: bytes | None, target: Target, data_dir: Path, node_id: int
) -> Restored:
    """Make the data directory of node `node_id`, which must not exist or be empty.

    Raises `ConfigurationError`, `DamagedBackup` and `StorageError`. After an error the directory is
    no data directory: a node refuses it, and so does another restore until it is removed.
    """
    _require_possible(reader, target, data_dir, node_id)
    cluster = target.cluster_of(reader.header.id)
    disk_id = cluster.membership.disk_ids[node_id]
    directory = open_directory(data_dir, target.cluster_name, node_id, disk_id)
    try:
        restoration = Restoration(cluster)
        await _write_state(directory, _restored_rows(reader, key, restoration))
        await _write_log(directory, restoration.meta)
        # The last step: without an identity it is no data directory.
        directory.save(
            DirectoryIdentity(
                cluster_id_of(target.cluster_name),
                node_id,
                disk_id,
                target.cluster_name,
                cluster.incarnation,
                Stage.MEMBER,
            )
        )
        make_private(directory.path)
    finally:
        directory.close()
    meta = restoration.meta
    return Restored(
        cluster.incarnation,
        meta.revision,
        meta.applied_index,
        restoration.keys,
        restoration.keys_of_leases,
    )


def _require_possible(reader: BackupReader, target: Target, data_dir: Path, node_id: int) -> None:
    if node_id not in target.members:
        raise ConfigurationError(
            f"--node-id is {node_id}, which is not among --initial-members. Fix: give the id of one"
            " of them."
        )
    version = reader.header.backup.cluster_version
    if version not in SUPPORTED:
        raise ConfigurationError(
            f"the backup is of the cluster version {version}, and this program supports"
            f" {SUPPORTED}. Fix: restore it with the release that saved it, or a later one."
        )
    if data_dir.exists() and any(data_dir.iterdir()):
        raise ConfigurationError(
            f"{data_dir} is not empty, and a restore overwrites nothing. Fix: name a new directory."
        )


def _restored_rows(
    reader: BackupReader, key: bytes | None, restoration: Restoration
) -> Iterator[BackupRow]:
    """The rows of the new state. Raises `DamagedBackup` for rows that are not those of a state."""
    try:
        for family, row, value in reader.rows(key):
            restored = restoration.row(family, row, value)
            if restored is not None:
                yield family, row, restored
        restoration.finish()
    except InvalidRequest as error:
        raise DamagedBackup(
            f"{reader.path} holds no state: {error.message}", path=reader.path
        ) from error


async def _write_state(directory: DataDirectory, rows: Iterator[BackupRow]) -> None:
    storage = RocksStateStorage(directory.state_path)
    try:
        _write_rows(storage.store, rows)
        await storage.sync()
    finally:
        await storage.close()


def _write_rows(store: RocksStateStore, rows: Iterator[BackupRow]) -> None:
    batch: dict[Family, dict[bytes, bytes | None]] = {}
    size_bytes = 0
    for family, key, value in rows:
        batch.setdefault(family, {})[key] = value
        size_bytes += len(key) + len(value)
        if size_bytes >= BATCH_BYTES_MAX:
            store.write(batch)
            batch, size_bytes = {}, 0
    store.write(batch)


async def _write_log(directory: DataDirectory, meta: Meta) -> None:
    """An empty log after what the state holds, in a term in which nobody has voted."""
    log = RocksLogStore(directory.log_path)
    try:
        log.recover()
        await log.reset(meta.applied_index, meta.applied_term, meta.applied_hash)
        hard_state = HardState(current_term=meta.applied_term, commit_index=meta.applied_index)
        await log.append(hard_state, [])
    finally:
        await log.close()


def _number(seed: bytes, name: str) -> int:
    """A number of 64 bits, never 0."""
    digest = hashlib.sha256(seed + name.encode()).digest()
    return int.from_bytes(digest[:8], "big") or 1

"""The data directories that a restore makes: all nodes agree, and nothing is overwritten."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from raftkv.backup.file import BackupReader
from raftkv.backup.restored_directory import Restored, Target, restore
from raftkv.errors import ConfigurationError, DamagedBackup, DirectoryMismatch, RaftkvError
from raftkv.kv.pace import run
from raftkv.kv.store import Family
from raftkv.node.config import NodeStores
from raftkv.node.recovery import Recovered, recover
from raftkv.raft.entry import Address
from raftkv.rpc.v1 import kv_pb2
from raftkv.storage.directory import open_directory, read_identity
from raftkv.storage.identity import Stage
from raftkv.storage.log_store import RocksLogStore
from raftkv.storage.state_storage import RocksStateStorage
from tests.node.wire import config_of

from .saved import save

MEMBERS = {id: Address(f"127.0.0.1:75{id}", f"127.0.0.1:74{id}") for id in (1, 2, 3)}
TARGET = Target("new", MEMBERS, "drawn by the first")


async def make(
    base: Path, node_id: int, target: Target = TARGET, *, id: bytes = b"0123456789abcdef"
) -> Restored:
    path = base / f"backup-{id.hex()}"
    if not path.exists():
        save(path, id=id)
    with BackupReader(path) as reader:
        return await restore(reader, None, target, base / f"node-{node_id}", node_id)


async def start(base: Path, node_id: int) -> tuple[Recovered, list[tuple[str, bytes, bytes]]]:
    """What the node finds at its start, and all rows of its state."""
    path = base / f"node-{node_id}"
    directory = open_directory(path, "new", node_id, 1, free_bytes_min=0)
    log, state = RocksLogStore(directory.log_path), RocksStateStorage(directory.state_path)
    try:
        identity = directory.load()
        assert identity is not None
        stores = NodeStores(directory, log, state)
        recovered = await recover(identity, config_of(leader_lease=False), stores, Random(node_id))
        rows = [(f.value, *row) for f in Family for row in state.store.scan(f, b"", None)]
        read = run(recovered.machine.read(kv_pb2.Range(key=b"\0", range_end=b"\0")))
        assert [kv.key for kv in read.range.kvs] == [b"a", b"b"]
        return recovered, rows
    finally:
        await log.close()
        await state.close()
        directory.close()


async def test_every_node_starts_from_the_same_state_log_and_membership(tmp_path: Path) -> None:
    made = [await make(tmp_path, node_id) for node_id in (1, 2, 3)]
    assert made[0] == made[1] == made[2]
    assert (made[0].keys, made[0].keys_of_leases) == (2, 1)
    started = [await start(tmp_path, node_id) for node_id in (1, 2, 3)]
    (first, rows), *others = started
    assert all(other_rows == rows for _, other_rows in others)
    for node_id, (recovered, _) in zip((1, 2, 3), started, strict=True):
        identity = read_identity(tmp_path / f"node-{node_id}")
        raft, membership = recovered.raft, recovered.machine.membership
        assert identity is not None
        assert identity.stage is Stage.MEMBER
        assert identity.incarnation == made[0].incarnation == recovered.machine.applied_hash
        assert membership.disk_ids[node_id] == identity.disk_id
        assert (raft.current_term, raft.last_applied, raft.log.last_index) == (6, 40, 40)
        assert raft.commit_index == 40
        assert (membership.voters, membership.addresses) == (frozenset(MEMBERS), MEMBERS)
    assert len(set(first.machine.membership.disk_ids.values())) == 3
    assert first.machine.revision == 1_000_000_009


@pytest.mark.parametrize(
    ("target", "id"),
    [
        (Target("new", MEMBERS, "of another restore"), b"0123456789abcdef"),
        (
            Target("new", MEMBERS | {3: Address("h:1", "h:2")}, TARGET.restore_id),
            b"0123456789abcdef",
        ),
        (Target("other", MEMBERS, TARGET.restore_id), b"0123456789abcdef"),
        (TARGET, b"another backup.."),
    ],
)
def test_another_file_list_name_or_restore_id_is_another_cluster(target: Target, id: bytes) -> None:
    one, other = TARGET.cluster_of(b"0123456789abcdef"), target.cluster_of(id)
    assert one.incarnation != other.incarnation
    assert not set(one.membership.disk_ids.values()) & set(other.membership.disk_ids.values())


async def test_a_restore_overwrites_nothing(tmp_path: Path) -> None:
    await make(tmp_path, 1)
    before = (tmp_path / "node-1" / "identity.json").read_bytes()
    with pytest.raises(ConfigurationError, match="overwrites nothing"):
        await make(tmp_path, 1)
    assert (tmp_path / "node-1" / "identity.json").read_bytes() == before
    with pytest.raises(ConfigurationError, match="not among"):
        await make(tmp_path, 4)
    assert not (tmp_path / "node-4").exists()


async def test_a_restore_that_breaks_off_leaves_no_data_directory(tmp_path: Path) -> None:
    whole = save(tmp_path / "backup", rows_per_frame=1)
    (tmp_path / "backup").write_bytes(whole[:-20])
    data_dir = tmp_path / "node-1"
    with BackupReader(tmp_path / "backup") as reader, pytest.raises(DamagedBackup):
        await restore(reader, None, TARGET, data_dir, 1)
    assert read_identity(data_dir) is None
    for attempt in (
        lambda: open_directory(data_dir, "new", 1, 1, free_bytes_min=0),
        lambda: open_directory(data_dir, "new", 2, 1, free_bytes_min=0),
    ):
        with pytest.raises(DirectoryMismatch):
            attempt()
    save(tmp_path / "again")
    with BackupReader(tmp_path / "again") as reader, pytest.raises(RaftkvError):
        await restore(reader, None, TARGET, data_dir, 1)

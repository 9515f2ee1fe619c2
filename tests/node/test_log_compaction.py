"""A node drops the entries of its log that its synced state includes, one compaction at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raftkv.rpc.v1 import kv_pb2
from raftkv.storage.memory import MemoryStateStorage
from tests.node.wire import cluster_of, soon, until

LOG_BYTES = 4_000
SYNC_S = 0.01


def put(number: int, value_bytes: int = 400) -> bytes:
    command = kv_pb2.Command(put=kv_pb2.Put(key=b"%d" % number, value=bytes(value_bytes)))
    return kv_pb2.CommandBatch(commands=[command]).SerializeToString()


async def test_every_node_keeps_about_the_retained_bytes_of_its_log(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False, log_bytes=LOG_BYTES) as (wire, leader):
        for number in range(60):
            await leader.submit(put(number), soon())
        for node in wire.nodes.values():
            log = node.core.log
            await until(lambda log=log: log.bytes <= LOG_BYTES)
            assert log.bytes > LOG_BYTES / 2
            assert log.compacted_index <= node.core.last_applied
        one = next(iter(wire.nodes))
        restarted = await wire.restart(one)
        await until(lambda: restarted.ready)
        assert restarted.machine.revision == leader.machine.revision


async def test_one_compaction_is_under_way_and_the_log_stays_until_the_state_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way: dict[MemoryStateStorage, int] = {}
    most, may_end = 0, asyncio.Event()
    sync = MemoryStateStorage.sync

    async def slow(storage: MemoryStateStorage) -> None:
        nonlocal most
        under_way[storage] = under_way.get(storage, 0) + 1
        most = max(most, under_way[storage])
        await may_end.wait()
        await sync(storage)
        under_way[storage] -= 1

    async with cluster_of(tmp_path, 1, leader_lease=False, log_bytes=LOG_BYTES) as (_, leader):
        monkeypatch.setattr(MemoryStateStorage, "sync", slow)
        for number in range(30):
            await leader.submit(put(number), soon())
        assert (most, leader.core.log.compacted_index) == (1, 0)
        may_end.set()
        await until(lambda: leader.core.log.bytes <= LOG_BYTES)
        assert most == 1


async def test_a_log_that_stays_too_long_is_not_compacted_again_until_it_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compactions, sync = 0, MemoryStateStorage.sync

    async def counted(storage: MemoryStateStorage) -> None:
        nonlocal compactions
        compactions += storage is state
        await asyncio.sleep(SYNC_S)
        await sync(storage)

    async with cluster_of(tmp_path, 1, leader_lease=False, log_bytes=LOG_BYTES) as (wire, leader):
        state = wire.states[leader.node_id]
        monkeypatch.setattr(MemoryStateStorage, "sync", counted)
        await leader.submit(put(0, 2 * LOG_BYTES), soon())
        await asyncio.sleep(100 * SYNC_S)
        assert leader.core.log.bytes > LOG_BYTES, "the last entry alone is too long"
        assert 0 < compactions < 5
        for number in range(6):
            await leader.submit(put(number), soon())
        await until(lambda: leader.core.log.bytes <= LOG_BYTES)

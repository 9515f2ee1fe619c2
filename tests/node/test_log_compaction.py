"""A node drops the entries of its log that its synced state includes, one compaction at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raftkv.rpc.v1 import kv_pb2
from raftkv.storage.memory import MemoryStateStorage
from tests.node.wire import cluster_of, soon, until

LOG_BYTES = 4_000


def put(number: int) -> bytes:
    command = kv_pb2.Command(put=kv_pb2.Put(key=b"%d" % number, value=b"x" * 400))
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

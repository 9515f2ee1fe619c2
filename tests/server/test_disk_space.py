"""With low disk space a node refuses commands that take space, and accepts those that free it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from raftkv.errors import DiskFull, OutOfResources
from raftkv.kv.store import Family
from raftkv.logs import get_logger
from raftkv.rpc.v1 import api_pb2, kv_pb2
from raftkv.server import disk_space
from raftkv.server.disk_space import DiskSpace, takes_space
from raftkv.storage.memory_state import MemoryStateStore
from raftkv.storage.reserve import DiskReserve
from tests.server.fake_node import open_server
from tests.server.test_unary_services import error_of

MIB = 1 << 20


class Reserve(DiskReserve):
    """A reserve on a disk whose free space the test sets."""

    free = 100 * MIB

    def free_bytes(self) -> int:
        return self.free


@pytest.fixture
def reserve(tmp_path: Path) -> Reserve:
    return Reserve(tmp_path, 4 * MIB)


@pytest.fixture
def space(reserve: Reserve) -> DiskSpace:
    return DiskSpace(reserve, get_logger())


def put() -> kv_pb2.Command:
    return kv_pb2.Command(put=kv_pb2.Put(key=b"k", value=b"v"))


def delete() -> kv_pb2.Command:
    return kv_pb2.Command(delete_range=kv_pb2.DeleteRange(key=b"k"))


def within(operation: kv_pb2.Operation) -> kv_pb2.Command:
    inner = kv_pb2.Transaction(failure=[operation])
    outer = kv_pb2.Transaction(success=[kv_pb2.Operation(transaction=inner)])
    return kv_pb2.Command(transaction=outer)


async def test_low_space_refuses_puts_with_advice(space: DiskSpace, reserve: Reserve) -> None:
    batch = kv_pb2.CommandBatch(commands=[delete(), put()])
    await space.check()
    space.require_room(batch)
    reserve.free = 3 * MIB
    await space.check()
    with pytest.raises(DiskFull, match=r"3 MiB left .* below 4 MiB.*raftkv compact") as raised:
        space.require_room(batch)
    assert raised.value.facts["position"] == "1"
    space.require_room(kv_pb2.CommandBatch(commands=[delete()]))


async def test_puts_are_accepted_again_with_twice_the_reserve_free(
    space: DiskSpace, reserve: Reserve
) -> None:
    await space.check()
    assert reserve.held
    reserve.free = MIB - 1
    await space.check()
    assert space.low
    assert not reserve.held, "it is released before a write fails"
    reserve.free = 8 * MIB - 1
    await space.check()
    assert space.low
    reserve.free = 8 * MIB
    await space.check()
    assert not space.low
    assert reserve.held


@pytest.mark.parametrize(
    ("command", "takes"),
    [
        (put(), True),
        (kv_pb2.Command(compare_and_swap=kv_pb2.CompareAndSwap(key=b"k")), True),
        (kv_pb2.Command(acquire=kv_pb2.Acquire()), True),
        (within(kv_pb2.Operation(put=kv_pb2.Put(key=b"k"))), True),
        (within(kv_pb2.Operation(delete_range=kv_pb2.DeleteRange(key=b"k"))), False),
        (delete(), False),
        (kv_pb2.Command(compact=kv_pb2.Compact(revision=3)), False),
        (kv_pb2.Command(lease_grant=kv_pb2.LeaseGrant(ttl_ms=1)), False),
        (kv_pb2.Command(lease_revoke=kv_pb2.LeaseRevoke(lease=1)), False),
    ],
)
def test_commands_that_take_space_are_distinguished_from_those_that_free_it(
    command: kv_pb2.Command, takes: bool
) -> None:
    assert takes_space(command) is takes


async def test_leadership_is_transferred_once_per_period_of_low_space(
    space: DiskSpace, reserve: Reserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_space, "INTERVAL_S", 0)
    asked: list[bool] = []
    led = [False, True]  # it becomes leader only after a while

    async def give_way() -> bool:
        asked.append(led.pop(0) if led else True)
        return asked[-1]

    assert reserve.take()
    watching = asyncio.ensure_future(space.watch(give_way))
    for free, times in ((3 * MIB, 2), (100 * MIB, 2), (3 * MIB, 3)):
        reserve.free = free
        for _ in range(50):  # turns of the loop, and it looks in each
            await asyncio.sleep(0)
        assert len(asked) == times
    watching.cancel()


async def test_a_read_that_fails_for_lack_of_descriptors_does_not_stop_the_node(
    tmp_path: Path,
) -> None:
    class WithoutDescriptors(MemoryStateStore):
        def get(self, family: Family, key: bytes) -> bytes | None:
            if family is Family.CURRENT:
                raise OutOfResources("too many open files", retry_after_s=1.0)
            return super().get(family, key)

    async with open_server(tmp_path, WithoutDescriptors()) as server:
        request = api_pb2.RangeRequest(range=kv_pb2.Range(key=b"a"))
        code, error = await error_of(server.kv.Range(request))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert isinstance(error, OutOfResources)
        assert not server.broken

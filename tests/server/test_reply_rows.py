"""Listings of any length are sent in bounded replies, built in short turns of the event loop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fake_node import FakeNode, FakeServer, open_server, put

import raftkv
from raftkv.config import Settings
from raftkv.errors import DeadlineExceeded
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.kv.pace import Steps, run
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, kv_pb2
from raftkv.server import reads
from raftkv.server.reads import REPLY_ROWS_MAX, REPLY_ROWS_PER_STEP, ReadHandler, fill_reply
from raftkv.storage.memory_state import MemoryStateStore

LEASE = 5


@pytest.fixture
def short_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "REPLY_ROWS_MAX", 10)
    monkeypatch.setattr(reads, "REPLY_ROWS_PER_STEP", 3)


def grant(lease: int) -> kv_pb2.Command:
    return kv_pb2.Command(lease_grant=kv_pb2.LeaseGrant(lease=lease, ttl_ms=60_000))


def join(server: FakeServer) -> int:
    acquire = kv_pb2.Acquire(name=b"n", ttl_ms=60_000)
    return server.node.run(kv_pb2.Command(acquire=acquire)).results[0].acquire.token


def connect(server: FakeServer) -> raftkv.client.client.Connecting:
    return raftkv.connect(f"127.0.0.1:{server.port}")


# ---- filling a reply -----------------------------------------------------------------


@pytest.mark.parametrize(("rows", "told", "more"), [(0, 0, False), (3, 3, False), (4, 3, True)])
def test_a_reply_is_filled_to_its_bytes_and_reports_whether_there_is_more(
    rows: int, told: int, more: bool
) -> None:
    size = 100 + reads.ROW_OVERHEAD_BYTES
    added: list[int] = []
    assert run(fill_reply(range(rows), added.append, lambda _: 100, 3 * size)) is more
    assert added == list(range(told))


def test_the_first_row_always_fits_so_that_a_listing_makes_progress() -> None:
    added: list[int] = []
    assert run(fill_reply(range(2), added.append, lambda _: 100, 10))
    assert added == [0]


def test_a_reply_has_a_bound_of_rows_and_yields_after_some() -> None:
    added: list[int] = []
    steps = fill_reply(range(REPLY_ROWS_MAX + 1), added.append, lambda _: 0, 1 << 30)
    next(steps)
    assert len(added) == REPLY_ROWS_PER_STEP
    assert run(steps)
    assert len(added) == REPLY_ROWS_MAX


# ---- lists that go on ----------------------------------------------------------------


@pytest.mark.usefixtures("short_replies")
async def test_leases_that_do_not_fit_into_one_reply_are_all_listed(server: FakeServer) -> None:
    server.node.run(*(grant(lease) for lease in range(1, 36)))
    first = await server.lease.List(api_pb2.LeaseListRequest())
    assert (list(first.leases), first.more) == (list(range(1, 11)), True)
    last = await server.lease.List(api_pb2.LeaseListRequest(after=30))
    assert (list(last.leases), last.more) == (list(range(31, 36)), False)
    async with connect(server) as client:
        assert await client.leases() == tuple(range(1, 36))


@pytest.mark.usefixtures("short_replies")
async def test_keys_of_a_lease_that_do_not_fit_into_one_reply_are_all_listed(
    server: FakeServer,
) -> None:
    keys = [f"k{i:02}" for i in range(25)]
    server.node.run(grant(LEASE), *(put(key, lease=LEASE) for key in keys))
    request = api_pb2.LeaseTimeToLiveRequest(lease=LEASE, keys=True, keys_after=b"k19")
    reply = await server.lease.TimeToLive(request)
    assert (list(reply.keys), reply.more_keys) == ([b"k20", b"k21", b"k22", b"k23", b"k24"], False)
    async with connect(server) as client:
        told = await client.lease_time_to_live(LEASE, keys=True)
        assert told.keys == tuple(key.encode() for key in keys)
        assert not (await client.lease_time_to_live(LEASE)).keys


@pytest.mark.usefixtures("short_replies")
async def test_a_queue_that_does_not_fit_into_one_reply_is_listed_completely(
    server: FakeServer,
) -> None:
    tokens = [join(server) for _ in range(25)]
    stub = api_pb2_grpc.LockStub(server.channel)  # type: ignore[no-untyped-call]
    reply = await stub.Info(api_pb2.LockInfoRequest(name=b"n", after_token=tokens[9]))
    assert ([member.token for member in reply.members], reply.more) == (tokens[10:20], True)
    async with connect(server) as client:
        told = await client.lock_info("n")
    assert told.holder is not None
    assert [told.holder.token, *(each.token for each in told.waiters)] == tokens


async def test_large_values_of_a_queue_are_split_over_several_replies(tmp_path: Path) -> None:
    async with open_server(tmp_path) as server:
        value = b"v" * (1 << 20)
        acquire = kv_pb2.Acquire(name=b"n", ttl_ms=60_000, value=value)
        for _ in range(6):
            server.node.run(kv_pb2.Command(acquire=acquire))
        stub = api_pb2_grpc.LockStub(server.channel)  # type: ignore[no-untyped-call]
        reply = await stub.Info(api_pb2.LockInfoRequest(name=b"n"))
        assert reply.more
        assert reply.ByteSize() <= Limits().reply_bytes_max
        async with connect(server) as client:
            assert len((await client.lock_info("n")).waiters) == 5


# ---- steps ---------------------------------------------------------------------------


@pytest.fixture
async def node(tmp_path: Path) -> FakeNode:
    return FakeNode(Settings(data_dir=tmp_path))


async def test_a_read_restarts_when_a_snapshot_replaces_the_store(node: FakeNode) -> None:
    reader = ReadHandler(node, Limits(), lambda _: None)
    first, second = node.machine, StateMachine(MemoryStateStore(), Limits())

    def look(machine: StateMachine) -> Steps[StateMachine]:
        node.machine = second
        yield
        return machine

    found = await reader.in_steps(look, asyncio.get_running_loop().time() + 60.0)
    assert found is second
    assert found is not first


async def test_a_read_beyond_its_deadline_is_abandoned(node: FakeNode) -> None:
    reader = ReadHandler(node, Limits(), lambda _: None)

    def endless(_: StateMachine) -> Steps[None]:
        while True:
            yield

    with pytest.raises(DeadlineExceeded):
        await reader.in_steps(endless, asyncio.get_running_loop().time())

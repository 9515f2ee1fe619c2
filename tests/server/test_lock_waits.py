"""Waits for locks at a node: which waiter is woken, when, and that none is missed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_node import FakeNode, FakeServer, open_server, put

from raftkv.config import Settings
from raftkv.errors import DeadlineExceeded, LockLost, Overloaded, ShuttingDown, Unavailable
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.kv.pace import run
from raftkv.node.change_feed import ChangeFeed
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, kv_pb2
from raftkv.server.services import lock_waits
from raftkv.server.services.lock_waits import LockWaits
from raftkv.storage.memory_state import MemoryStateStore
from raftkv.wire.grpc_status import error_of_call
from tests.kv.harness import batch, entry, no_hash


class Queue:
    """A fake node with one lock's queue, and the waits at it."""

    def __init__(self, data_dir: Path) -> None:
        self.store = MemoryStateStore()
        self.node = FakeNode(Settings(data_dir=data_dir), self.store)
        self.waits = LockWaits(self.node)

    def join(self) -> int:
        """A new member under a lease of its own; its token."""
        acquire = kv_pb2.Acquire(name=b"n", ttl_ms=60_000)
        return self.node.run(kv_pb2.Command(acquire=acquire)).results[0].acquire.token

    def wait(self, token: int) -> asyncio.Future[None]:
        return self.waits.wait(b"n", token, lambda: None)

    def leave(self, *tokens: int) -> None:
        """All in one run of the log."""
        keys = [b"n/%016x" % token for token in tokens]
        commands = [kv_pb2.Command(delete_range=kv_pb2.DeleteRange(key=key)) for key in keys]
        self.node.run(*commands)


@pytest.fixture
async def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path)


async def test_the_holder_waits_for_nothing(queue: Queue) -> None:
    assert queue.wait(queue.join()).done()


async def test_the_next_waiter_is_woken_in_the_turn_in_which_the_release_is_applied(
    queue: Queue,
) -> None:
    holder, second, third = (queue.join() for _ in range(3))
    waits = {token: queue.wait(token) for token in (third, second)}
    queue.leave(holder)
    assert waits[second].done()
    assert not waits[third].done()
    queue.leave(second)
    assert waits[third].done()


async def test_a_release_wakes_one_waiter_and_checks_no_other(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = [queue.join() for _ in range(100)]
    waits = [queue.wait(token) for token in tokens[1:]]
    seeks = 0
    holder = StateMachine.lock_holder

    def counted(machine: StateMachine, name: bytes) -> object:
        nonlocal seeks
        seeks += 1
        return holder(machine, name)

    monkeypatch.setattr(StateMachine, "lock_holder", counted)
    queue.leave(tokens[0])
    assert [wait.done() for wait in waits] == [True] + [False] * 98
    assert seeks == 1
    queue.node.run(put("elsewhere"))
    assert seeks == 1


async def test_a_waiter_whose_entry_is_deleted_in_the_middle_fails_and_wakes_no_other(
    queue: Queue,
) -> None:
    holder, second, third, last = (queue.join() for _ in range(4))
    waits = {token: queue.wait(token) for token in (second, third, last)}
    queue.leave(third)
    assert isinstance(waits[third].exception(), LockLost)
    assert "no longer in the queue of n" in str(waits[third].exception())
    assert not waits[second].done()
    assert not waits[last].done()
    queue.leave(holder)
    queue.leave(second)
    assert waits[last].exception() is None


async def test_if_holder_and_next_leave_together_the_one_after_them_is_woken(queue: Queue) -> None:
    holder, second, third = (queue.join() for _ in range(3))
    waits = {token: queue.wait(token) for token in (second, third)}
    queue.leave(second, holder)
    assert isinstance(waits[second].exception(), LockLost)
    assert waits[third].exception() is None


async def test_a_release_before_the_wait_arrives_is_not_missed(queue: Queue) -> None:
    holder, second = queue.join(), queue.join()
    queue.leave(holder)
    assert queue.wait(second).done()


async def test_a_wait_for_a_deleted_entry_fails_at_once(queue: Queue) -> None:
    queue.join()
    second = queue.join()
    queue.leave(second)
    assert isinstance(queue.wait(second).exception(), LockLost)


async def test_a_wait_for_an_entry_that_is_not_applied_yet_continues(queue: Queue) -> None:
    holder = queue.join()
    ahead = queue.wait(queue.node.machine.revision + 1)
    assert not ahead.done()
    assert queue.join() == queue.node.machine.revision
    assert not ahead.done()
    queue.leave(holder)
    assert ahead.exception() is None


async def test_a_wait_for_a_token_that_never_existed_fails(queue: Queue) -> None:
    queue.join()
    ahead = queue.wait(queue.node.machine.revision + 1)
    queue.node.run(put("something else"))
    assert isinstance(ahead.exception(), LockLost)


async def test_a_stale_release_wakes_no_waiter(queue: Queue) -> None:
    first, second, third = (queue.join() for _ in range(3))
    queue.leave(first)
    wait = queue.wait(third)
    queue.leave(first)
    assert not wait.done()
    assert queue.wait(second).done()


async def test_waiters_are_checked_after_a_snapshot(queue: Queue) -> None:
    holder, second = queue.join(), queue.join()
    wait = queue.wait(second)
    changes = queue.node.changes
    queue.node.machine.set_change_listener(None)  # what happens now, this node learns by snapshot
    queue.leave(holder)
    assert not wait.done()
    changes.replace(queue.node.machine)
    assert wait.done()


async def test_a_release_in_a_run_that_was_begun_before_the_wait_is_not_missed(
    queue: Queue,
) -> None:
    holder, second = queue.join(), queue.join()
    machine = queue.node.machine = StateMachine(queue.store, Limits(), step_units=1)
    queue.node.changes = ChangeFeed(machine)
    commands = [
        kv_pb2.Command(delete_range=kv_pb2.DeleteRange(key=b"n/%016x" % holder)),
        put("elsewhere"),
    ]
    first = machine.applied_index + 1
    entries = [
        entry(first + number, 0, batch(each), term=queue.node.term)
        for number, each in enumerate(commands)
    ]
    steps = machine.apply_in_steps(entries, no_hash)
    next(steps)
    wait = queue.wait(second)
    assert not wait.done()
    run(steps)
    assert wait.done()


async def test_two_calls_may_wait_for_one_entry(queue: Queue) -> None:
    holder, second = queue.join(), queue.join()
    first_call, second_call = queue.wait(second), queue.wait(second)
    queue.waits.leave(b"n", second, first_call)
    queue.leave(holder)
    assert second_call.done()


async def test_without_waiters_no_feed_is_followed_and_no_state_kept(queue: Queue) -> None:
    queue.join()
    second = queue.join()
    wait = queue.wait(second)
    assert queue.node.changes._subscribers
    queue.waits.leave(b"n", second, wait)
    await asyncio.sleep(0)
    assert not queue.node.changes._subscribers
    assert not queue.waits._queues
    assert queue.waits._calls == 0


async def test_waits_are_bounded(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_waits, "WAITS_MAX", 1)
    queue.join()
    second = queue.join()
    queue.wait(second)
    with pytest.raises(Overloaded):
        queue.wait(second)


async def test_a_node_without_a_majority_ends_its_waits_as_unavailable(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_waits, "CONTACT_INTERVAL_S", 0.01)
    queue.join()
    wait = queue.wait(queue.join())
    queue.node.majority = False
    with pytest.raises(Unavailable):
        await asyncio.wait_for(wait, 10.0)


# ---- the service -----------------------------------------------------------------------


def wait_request(token: int) -> api_pb2.LockWaitRequest:
    return api_pb2.LockWaitRequest(name=b"n", token=token)


def join(server: FakeServer) -> int:
    acquire = kv_pb2.Acquire(name=b"n", ttl_ms=60_000, value=b"me")
    return server.node.run(kv_pb2.Command(acquire=acquire)).results[0].acquire.token


def stub(server: FakeServer) -> Any:
    return api_pb2_grpc.LockStub(server.channel)  # type: ignore[no-untyped-call]


async def test_waits_do_not_count_as_requests_in_flight(tmp_path: Path) -> None:
    async with open_server(tmp_path, submissions_in_flight_max=1) as server:
        join(server)
        second = join(server)
        waiting = [asyncio.ensure_future(stub(server).Wait(wait_request(second))) for _ in range(3)]
        while server.client_server._locks._waits._calls < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert server.client_server._admission.requests == 0
        for each in waiting:
            each.cancel()


async def test_a_wait_ends_with_an_error_before_its_callers_deadline(server: FakeServer) -> None:
    join(server)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await stub(server).Wait(wait_request(join(server)), timeout=0.5)
    assert isinstance(error_of_call(ended.value), DeadlineExceeded)


async def test_a_node_that_drains_ends_its_waits_at_once(tmp_path: Path) -> None:
    async with open_server(tmp_path) as server:
        join(server)
        waiting = asyncio.ensure_future(stub(server).Wait(wait_request(join(server))))
        while not server.client_server._locks._waits._calls:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await server.client_server.drain(0)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await waiting
        assert isinstance(error_of_call(ended.value), ShuttingDown)


async def test_info_lists_holder_and_waiters_with_the_time_left_of_their_leases(
    server: FakeServer,
) -> None:
    tokens = [join(server), join(server)]
    reply = await stub(server).Info(api_pb2.LockInfoRequest(name=b"n"))
    assert [member.token for member in reply.members] == tokens
    assert {member.value for member in reply.members} == {b"me"}
    assert all(0 < member.ttl_ms <= 60_000 for member in reply.members)

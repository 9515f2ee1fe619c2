"""A client in a forked child: refused at once, and harmless to the parent, which goes on.

The children are real; the cluster is a script. What gRPC does is in `tests/cluster/test_forks.py`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from raftkv.client.client import Client
from raftkv.client.connection import grpc_fork
from raftkv.errors import WrongProcess
from raftkv.rpc.v1 import kv_pb2
from tests.client.every_call import (
    ClientObjects,
    of_a_client,
    of_what_it_handed_out,
    questions_to,
    refused_at_once,
)
from tests.client.lock_cluster import LockCluster
from tests.client.watch_cluster import WatchCluster, take


@pytest.fixture
async def cluster() -> LockCluster:
    return LockCluster("a:1", "b:2", "c:3")


def in_a_child(act: Callable[[], str]) -> str:
    """What `act` returns or raises in a forked child."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            output = act()
        except BaseException as error:  # noqa: BLE001 - the test shows it
            output = repr(error)
        os.write(writing, output.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        output = answer.read()
    assert os.waitpid(child, 0)[1] == 0
    return output


async def test_every_call_in_a_child_is_refused_at_once(client: Client) -> None:
    made = await ClientObjects.by(client)
    calls = of_a_client(client, made.grant) | of_what_it_handed_out(client, made)

    def make_them() -> str:
        output = {name: refused_at_once(call) for name, call in calls.items()}
        for name, question in questions_to(made).items():
            try:
                output[name] = f"answers {question()}"
            except WrongProcess:
                output[name] = "WrongProcess"
        return repr({name: each for name, each in output.items() if each != "WrongProcess"})

    assert in_a_child(make_them) == "{}"
    await made.give_back()


async def test_calls_in_a_child_are_refused_on_a_loop_of_its_own_too(client: Client) -> None:
    def call() -> str:
        with pytest.raises(WrongProcess, match=f"in process {os.getppid()}.*post_fork"):
            asyncio.new_event_loop().run_until_complete(client.get("k"))
        return "refused"

    assert in_a_child(call) == "refused"


async def test_a_watch_in_a_child_is_refused(watcher: Client, watch_cluster: WatchCluster) -> None:
    async with watcher.watch("k") as watch:
        assert in_a_child(lambda: refused_at_once(watch.next_batch)) == "WrongProcess"
        assert in_a_child(lambda: refused_at_once(watch.started)) == "WrongProcess"
        watch_cluster.write(kv_pb2.Command(put=kv_pb2.Put(key=b"k", value=b"v")))
        assert [event.kv.value for event in await take(watch, 1) if event.kv] == [b"v"]


async def test_objects_that_end_in_a_child_go_on_in_the_parent(client: Client) -> None:
    made = await ClientObjects.by(client)
    async with client.lock("block") as block:

        def end_everything() -> str:
            """As a block that is left does, and closing by hand, without an event loop."""
            for end in (
                block.__aexit__(None, None, None),
                made.leadership.__aexit__(SystemExit, SystemExit(), None),
                made.give_back(),
                client.close(),
                client.__aexit__(None, None, None),
            ):
                with pytest.raises(StopIteration):
                    end.send(None)
            return "ended"

        assert in_a_child(end_everything) == "ended"
        await client.put("k", "v", fence=block)
        made.lock.check()
        made.leadership.check()
        made.kept.check()
    await made.give_back()


async def test_the_block_of_a_lease_that_ends_in_a_child_waits_for_no_answer_to_its_parent(
    client: Client, cluster: LockCluster
) -> None:
    ended, kept = client.lease(60.0), client.lease(60.0)
    await ended.__aenter__()
    lease = await kept.__aenter__()
    cluster.go_down()
    revoked = asyncio.ensure_future(ended.__aexit__(None, None, None))
    await asyncio.sleep(0.01)

    def leave() -> str:
        with pytest.raises(StopIteration):
            kept.__aexit__(None, None, None).send(None)  # type: ignore[attr-defined]
        return "left"

    assert not revoked.done()
    assert in_a_child(leave) == "left"
    cluster.come_up()
    await revoked
    assert not lease.lost.is_set()
    await kept.__aexit__(None, None, None)


def test_grpc_is_loaded_without_its_fork_handlers_and_the_setting_is_not_inherited() -> None:
    code = (
        "import os; from raftkv.client.connection.grpc_fork import SETTING, handlers_are_on as on"
    )
    report = "; print(on, os.environ.get(SETTING))"
    bare = {name: value for name, value in os.environ.items() if name != grpc_fork.SETTING}

    def run(program: str, **settings: str) -> str:
        command = [sys.executable, "-c", program]
        return subprocess.check_output(command, env=bare | settings, text=True).strip()

    assert run(code + report) == "False None"
    assert run("import grpc; " + code + report) == "True None"
    assert run(code + report, GRPC_ENABLE_FORK_SUPPORT="1") == "True 1"


def test_a_child_sends_nothing_on_the_parents_connection() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with listener, socket.create_connection(("127.0.0.1", port)) as connection:
        node, _ = listener.accept()

        def write() -> str:
            grpc_fork._cut_off({("127.0.0.1", port)})
            connection.sendall(b"from the child")
            return "sent"

        with node:
            assert in_a_child(write).startswith("BrokenPipeError")
            connection.sendall(b"from the parent")
            assert node.recv(100) == b"from the parent"


def test_a_child_that_closes_its_copy_of_a_loop_does_not_stop_the_parents() -> None:
    loop = asyncio.new_event_loop()

    def close() -> str:
        grpc_fork._leave_epoll(loop)
        loop.close()
        return "closed"

    assert in_a_child(close) == "closed"

    private: Any = loop
    private._write_to_self()
    assert private._selector.select(1.0), "another thread can wake the parent's loop"
    loop.close()


def test_a_child_can_use_grpc_only_if_its_parent_did_not_at_the_fork(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fork() -> grpc_fork.Forks:
        forks = grpc_fork.Forks()
        forks.before()
        forks.after_in_child()
        return forks

    monkeypatch.setattr(grpc_fork, "_grpc_aio_runs", lambda: False)
    monkeypatch.setattr(grpc_fork, "_grpc_runs", lambda: False)
    fork().check()
    monkeypatch.setattr(grpc_fork, "_grpc_runs", lambda: True)
    monkeypatch.setattr(grpc_fork, "handlers_are_on", True)
    fork().check()  # gRPC starts itself anew
    monkeypatch.setattr(grpc_fork, "handlers_are_on", False)
    with pytest.raises(WrongProcess, match="spawn or forkserver"):
        fork().check()
    monkeypatch.setattr(grpc_fork, "handlers_are_on", True)
    monkeypatch.setattr(grpc_fork, "_grpc_aio_runs", lambda: True)
    with pytest.raises(WrongProcess):
        fork().check()

"""A process that ends by itself is reported, and a clean-up attempts every step."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from jepsen_lite.db.base import DatabaseFailed
from jepsen_lite.db.processes import OF_ITS_OWN, Server
from jepsen_lite.db.raftkv import RaftkvCluster

LIVES = ["sleep", "100"]
GIVES_UP = ["sh", "-c", "echo no more; exit 8"]
SOON_S = 10.0


def cluster_of_one(directory: Path) -> tuple[RaftkvCluster, Server]:
    directory.mkdir(exist_ok=True)
    system = RaftkvCluster(directory, directory, 1)
    return system, system.servers["node-1"]


async def runs(server: Server, command: list[str]) -> None:
    server.command = command
    assert await server.start()


def has_ended(server: Server) -> None:
    """Wait for it; an orderly end takes no time."""
    until_s = time.monotonic() + SOON_S
    while server.running:
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_a_node_that_exited_by_itself_is_reported_once_though_it_was_restarted(
    tmp_path: Path,
) -> None:
    async def go() -> None:
        system, server = cluster_of_one(tmp_path)
        await runs(server, GIVES_UP)
        has_ended(server)
        await runs(server, LIVES)
        await system.stop()
        (report,) = system.died()
        assert "node-1 ended by itself with code 8" in report
        assert "no more" in report

    asyncio.run(go())


def test_a_node_killed_from_outside_is_reported(tmp_path: Path) -> None:
    async def go() -> None:
        system, server = cluster_of_one(tmp_path)
        await runs(server, LIVES)
        os.kill(server.pid, signal.SIGKILL)
        has_ended(server)
        (report,) = system.died()
        assert "signal 9" in report

    asyncio.run(go())


@pytest.mark.parametrize("end", [Server.kill, Server.stop])
def test_a_node_that_the_harness_ended_is_not_reported(
    tmp_path: Path, end: Callable[[Server], Awaitable[bool]]
) -> None:
    async def go() -> None:
        system, server = cluster_of_one(tmp_path)
        await runs(server, LIVES)
        await end(server)
        assert system.died() == []

    asyncio.run(go())


def test_an_excuse_covers_its_exit_codes_and_its_time(tmp_path: Path) -> None:
    async def go() -> None:
        system, server = cluster_of_one(tmp_path)
        over = server.excuse(OF_ITS_OWN)
        await runs(server, GIVES_UP)
        has_ended(server)
        over()
        assert system.died() == []
        await runs(server, GIVES_UP)
        has_ended(server)
        assert len(system.died()) == 1
        server.excuse(OF_ITS_OWN)
        await runs(server, LIVES)
        os.kill(server.pid, signal.SIGSEGV)
        has_ended(server)
        assert len(system.died()) == 2

    asyncio.run(go())


def test_a_node_that_left_the_cluster_is_still_reported(tmp_path: Path) -> None:
    async def go() -> None:
        system, server = cluster_of_one(tmp_path)
        await runs(server, GIVES_UP)
        has_ended(server)
        system.retire("node-1")
        assert system.nodes == ()
        assert len(system.died()) == 1

    asyncio.run(go())


def test_a_clean_up_attempts_everything_and_then_raises_its_failures(tmp_path: Path) -> None:
    done = []

    def stuck() -> None:
        raise OSError("target is busy")

    async def go() -> None:
        system, server = cluster_of_one(tmp_path)
        for step in (lambda: done.append("first"), stuck, lambda: done.append("last")):
            system.at_end(step)
        await runs(server, LIVES)
        with pytest.raises(DatabaseFailed, match="target is busy"):
            await system.stop()
        assert not server.running

    asyncio.run(go())
    assert done == ["last", "first"]

"""Tests of the client run on virtual time, against a scripted cluster in memory.

Only those of the gRPC link itself, with TLS or without, have real sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import async_solipsism
import pytest
import structlog

from raftkv.client.client import Client
from raftkv.client.settings import ClientSettings
from tests.client.scripted import ScriptedCluster
from tests.client.watch_cluster import WatchCluster

WITH_SOCKETS = ("test_grpc_link.py", "test_tls_handshakes.py")


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.name in WITH_SOCKETS:
        return {"real-sockets": asyncio.new_event_loop}
    return {"virtual-time": async_solipsism.EventLoop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Random delays fall between the virtual clock's ticks of a microsecond, which does no harm.
    harmless = pytest.mark.filterwarnings("ignore::async_solipsism.ResolutionWarning")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(harmless)


@pytest.fixture(autouse=True)
def _program_without_structlog() -> Iterator[None]:
    """Events go to `logging` then; a test before may have configured structlog."""
    was_configured, configuration = structlog.is_configured(), structlog.get_config()
    structlog.reset_defaults()
    yield
    if was_configured:
        structlog.configure(**configuration)


@pytest.fixture
async def cluster() -> ScriptedCluster:
    return ScriptedCluster("a:1", "b:2", "c:3")


Connect = Callable[..., Awaitable[Client]]


@pytest.fixture
async def connect(cluster: ScriptedCluster) -> AsyncIterator[Connect]:
    """Makes clients of the cluster and closes them; a client must leave no task behind."""
    clients: list[Client] = []

    async def made(timeout: float = 5.0, **settings: float) -> Client:
        client = await cluster.connect(timeout, ClientSettings(**settings))  # type: ignore[arg-type]
        clients.append(client)
        return client

    before = asyncio.all_tasks()
    yield made
    for client in clients:
        await client.close()
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, "a closed client has no task"


@pytest.fixture
async def client(connect: Connect) -> Client:
    return await connect()


@pytest.fixture
async def watch_cluster() -> WatchCluster:
    """Nodes that serve watches with the production handlers."""
    return WatchCluster()


@pytest.fixture
async def watcher(watch_cluster: WatchCluster) -> AsyncIterator[Client]:
    """A client of `watch_cluster`; once it is closed neither it nor a node may have a task left."""
    before = asyncio.all_tasks()
    client = await watch_cluster.connect()
    yield client
    await client.close()
    await asyncio.sleep(1.0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, "a closed client leaves nothing behind, here or at a node"

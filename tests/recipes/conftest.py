"""Recipes run on virtual time, against the real state machine with the production handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import async_solipsism
import pytest

from raftkv.client.client import Client
from raftkv.client.settings import ClientSettings
from tests.recipes.recipe_cluster import RecipeCluster

Connect = Callable[[], Awaitable[Client]]


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual-time": async_solipsism.EventLoop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    harmless = pytest.mark.filterwarnings("ignore::async_solipsism.ResolutionWarning")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(harmless)


@pytest.fixture
async def cluster() -> RecipeCluster:
    return RecipeCluster("a:1", "b:2", "c:3")


@pytest.fixture
async def connect(cluster: RecipeCluster) -> AsyncIterator[Connect]:
    """Makes clients of the cluster and closes them."""
    clients: list[Client] = []

    async def made() -> Client:
        clients.append(await cluster.connect(5.0, ClientSettings()))
        return clients[-1]

    yield made
    for client in clients:
        await client.close()


@pytest.fixture
async def client(connect: Connect) -> Client:
    return await connect()


@pytest.fixture
async def other(connect: Connect) -> Client:
    return await connect()

"""The harness's own tasks run on virtual time; only its proxies have real sockets."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator

import async_solipsism
import pytest
import structlog

from raftkv import logs


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.name == "test_real.py":
        return {"real-sockets": asyncio.new_event_loop}
    return {"virtual-time": async_solipsism.EventLoop}


@pytest.fixture
def quiet_nodes() -> Iterator[None]:
    """Simulated nodes log in this process: only their errors, into a buffer."""
    level = logs.get_level()
    logs.configure("console", "error", io.StringIO())
    yield
    structlog.reset_defaults()
    logs.set_level(level)

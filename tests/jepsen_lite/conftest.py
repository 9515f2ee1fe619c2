"""The harness's own tasks run on virtual time; only its proxies have real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import async_solipsism
import pytest


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.name == "test_real.py":
        return {"real-sockets": asyncio.new_event_loop}
    return {"virtual-time": async_solipsism.EventLoop}

"""All promises are tested on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import async_solipsism
import pytest


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual-time": async_solipsism.EventLoop}

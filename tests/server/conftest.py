from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fake_node import FakeServer, open_server


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[FakeServer]:
    async with open_server(tmp_path) as made:
        yield made

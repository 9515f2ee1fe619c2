from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from loopback import Loopback


@pytest.fixture
async def loopback(tmp_path: Path) -> AsyncIterator[Loopback]:
    with ThreadPoolExecutor(max_workers=1) as disk:
        made = Loopback(tmp_path, disk)
        yield made
        for side in made.sides:
            await side.close()

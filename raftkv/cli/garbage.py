"""When Python looks for reference cycles in a node's process.

A full collection visits every object that lives long, log entries and leases among them: 20 to 50
ms where callers have made many. It finds next to nothing, for cycles are rare here and die young.
So young objects are collected as ever, and a full collection comes at long intervals.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Final

YOUNG_OBJECTS: Final = 2_000
YOUNG_COLLECTIONS: Final = 10
"""Objects, and collections of them, after which those that survived them are collected too."""

FULL_INTERVAL_S: Final = 600.0
NEVER: Final = 1 << 30


async def collect_rarely() -> None:
    """Runs until it is cancelled. What is there at its start is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_COLLECTIONS, NEVER)
    while True:
        await asyncio.sleep(FULL_INTERVAL_S)
        gc.collect()

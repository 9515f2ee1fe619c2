"""The scripted cluster of locks, whose nodes die with their watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.client.lock_cluster import LockCluster


class RecipeCluster(LockCluster):
    """Another node leads once the leader is dead."""

    def kill(self, address: str) -> None:
        """The node dies and another one leads."""
        self.nodes[address].kill()
        for stream in list(self.hosts[address].streams):
            stream.break_off()
        self.leader = next(each for each, node in self.nodes.items() if node.up)
        self.term += 1


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, on virtual time."""
    async with asyncio.timeout(60.0):
        while not condition():  # noqa: ASYNC110 (virtual time)
            await asyncio.sleep(0.001)

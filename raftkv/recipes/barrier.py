"""A barrier: while it stands, whoever comes to it waits. Knows one key."""

from __future__ import annotations

import asyncio

from raftkv.arguments import to_timeout_or_none
from raftkv.client.client import Client
from raftkv.errors import DeadlineExceeded, printable
from raftkv.recipes.sharing import recipe_name, to_client
from raftkv.recipes.waiting import until_changed


class Barrier:
    """A barrier of the cluster.

        barrier = Barrier(client, "maintenance")
        await barrier.hold()
        ...
        await barrier.release()  # and everybody in `barrier.wait()` goes on

    It stands until somebody releases it, whoever held it and whether that one still lives: its
    key stands on no lease.
    """

    def __init__(self, client: Client, name: str | bytes) -> None:
        self.name = recipe_name(name)
        self._client = to_client(client)

    async def hold(self, *, timeout: float | None = None) -> bool:
        """Set it up; False if it stood already. Interrupted or cancelled, it may stand."""
        swap = await self._client.compare_and_swap(self.name, None, b"", timeout=timeout)
        return swap.swapped

    async def release(self, *, timeout: float | None = None) -> bool:
        """Let all go on; False if it did not stand."""
        return bool((await self._client.delete(self.name, timeout=timeout)).deleted)

    async def wait(self, *, timeout: float | None = None) -> None:
        """Wait until it does not stand; it may have been set up again by then.

        Raises `DeadlineExceeded` after `timeout` seconds; None: however long it stands, 0: at once
        if it stands.
        """
        once = to_timeout_or_none(timeout) == 0
        self._client.queues.home.check()
        try:
            async with asyncio.timeout(None if once else timeout):
                await self._until_released(once)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the barrier {printable(self.name)} still stands after {timeout} s"
            ) from None

    async def _until_released(self, once: bool) -> None:
        seen = 0  # the revision at which the barrier was set up that is waited for
        while True:
            found = await self._client.range(
                self.name, self.name + b"\x00", timeout=0 if once else None
            )
            if not found.kvs or seen not in (0, found.kvs[0].create_revision):
                return
            if once:
                raise TimeoutError
            seen = found.kvs[0].create_revision
            await until_changed(self._client, self.name, after=found.revision, puts=False)

"""A barrier: one key; while the key exists, every caller of `wait` waits."""

from __future__ import annotations

import asyncio

from raftkv.arguments import to_timeout_or_none
from raftkv.client.client import Client
from raftkv.errors import DeadlineExceeded, printable
from raftkv.recipes._parameters import recipe_name, to_client
from raftkv.recipes._queues import wait_for_change


class Barrier:
    """A barrier of the cluster.

        barrier = Barrier(client, "maintenance")
        await barrier.hold()
        ...
        await barrier.release()  # every `barrier.wait()` returns

    The barrier stands until any client releases it, also if the client that set it up has died: its
    key has no lease. `name` is the key, a `str` or `bytes` of 1 to 8,192 bytes.
    """

    name: bytes
    """The key of the barrier."""

    def __init__(self, client: Client, name: str | bytes) -> None:
        self.name = recipe_name(name)
        self._client = to_client(client)

    async def hold(self, *, timeout: float | None = None) -> bool:
        """Set the barrier up; False if it stood already.

        One write. `timeout` is in seconds; None: the client's default, 0: one attempt. Raises
        `DeadlineExceeded` if nothing was changed, and `OutcomeUnknown` if the barrier may stand.
        A call that is cancelled or interrupted may leave the barrier standing, too.
        """
        swap = await self._client.compare_and_swap(self.name, None, b"", timeout=timeout)
        return swap.swapped

    async def release(self, *, timeout: float | None = None) -> bool:
        """Take the barrier down, so that every waiting caller goes on; False if it did not stand.

        One write. `timeout` and errors as for `hold`.
        """
        return bool((await self._client.delete(self.name, timeout=timeout)).deleted)

    async def wait(self, *, timeout: float | None = None) -> None:
        """Wait until the barrier is released. It may have been set up again by then.

        `timeout` is in seconds; None: as long as the barrier stands, 0: one look. Raises
        `DeadlineExceeded` if the barrier still stands then. Costs one linearizable read, and a
        watch and a further read for each change of the key.
        """
        once = to_timeout_or_none(timeout) == 0
        self._client.queues.home.check()
        try:
            async with asyncio.timeout(None if once else timeout):
                await self._wait_until_released(once)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the barrier {printable(self.name)} still stands after {timeout} s"
            ) from None

    async def _wait_until_released(self, once: bool) -> None:
        seen = 0  # the create_revision of the barrier that this call waits for
        while True:
            found = await self._client.range(
                self.name, self.name + b"\x00", timeout=0 if once else None
            )
            if not found.kvs or seen not in (0, found.kvs[0].create_revision):
                return
            if once:
                raise TimeoutError
            seen = found.kvs[0].create_revision
            await wait_for_change(self._client, self.name, after=found.revision, puts=False)

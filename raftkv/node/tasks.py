"""The work of a driver that takes more than one turn of the loop, and what its failure means."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from raftkv.errors import InvariantViolation


class Fatal:
    """Whatever fails in here, an invariant above all, the node can't go on."""

    def __init__(self, finish: Callable[[BaseException], None]) -> None:
        self._finish = finish

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> bool:
        if not isinstance(error, Exception | InvariantViolation):
            return False  # nothing failed, or the task was cancelled
        self._finish(error)
        return True


class Tasks:
    """The tasks that run. The failure of one is fatal."""

    def __init__(self, fatal: Fatal) -> None:
        self._fatal = fatal
        self._loop = asyncio.get_running_loop()
        # In order, as sets are not: one seed must decide who goes first.
        self._running: dict[asyncio.Task[None], None] = {}

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(self._guard(work))
        self._running[task] = None
        task.add_done_callback(self._running.pop)
        # A task that is cancelled before its first step never gets to awaiting this.
        task.add_done_callback(lambda _: work.close())
        return task

    async def settle(self) -> None:
        """Cancel what runs, and wait until nothing does."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _guard(self, work: Awaitable[None]) -> None:
        with self._fatal:
            await work

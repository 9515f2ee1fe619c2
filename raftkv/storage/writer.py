"""The thread on which a store waits for its disk. Knows nothing of what is being waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Result = TypeVar("_Result")


class WriterThread:
    """Runs calls one after the other, off the event loop, and lets none go unfinished."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._closed = False

    async def run(self, call: Callable[[], _Result]) -> _Result:
        """Run `call` after those before it, to its end even if the caller is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def start(self, call: Callable[[], object]) -> None:
        """Run `call` after those before it; nobody waits for it."""
        self._executor.submit(call)

    async def close(self, last: Callable[[], object]) -> None:
        """Run `last` after all others, then take no more calls. Again is no error."""
        if self._closed:
            return
        self._closed = True
        try:
            await self.run(last)
        finally:
            self._executor.shutdown(wait=False)

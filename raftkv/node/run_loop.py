"""The rounds and background tasks of a node on the event loop, until the node stops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from raftkv.errors import DeadlineExceeded, InvariantViolation, ShuttingDown

FATAL = (Exception, InvariantViolation)
"""What ends the node's service when a round or a task raises it. A cancellation does not."""


class FatalErrors:
    """A context manager: an error of `FATAL` that leaves its block ends the node's service."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> bool:
        if not isinstance(error, FATAL):
            return False
        self._failed(error)
        return True


class RunLoop:
    """Runs `round_of_work` at most once per turn of the event loop, after every `wake()`.

    An error in a round or a task is passed to `failed`. `stopped` is done once the node has
    stopped; its result is the reason, None for an orderly stop. `dead` is true from then on.
    """

    def __init__(
        self, round_of_work: Callable[[], None], failed: Callable[[BaseException], None]
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.stopped: asyncio.Future[BaseException | None] = self.loop.create_future()
        self.dead = False
        self.fail = failed
        self.fatal = FatalErrors(failed)
        self._round_of_work = round_of_work
        self._round_due = False
        # Dicts, because sets have no order: the same seed must replay the same run.
        self.waiters: dict[asyncio.Future[None], None] = {}
        """The calls of `until` that wait for the end of a round."""

        self._tasks: dict[asyncio.Task[None], None] = {}

    def wake(self) -> None:
        """Run a round in this turn of the loop."""
        if not self._round_due and not self.dead:
            self._round_due = True
            self.loop.call_soon(self._run_round)

    def _run_round(self) -> None:
        self._round_due = False
        if not self.dead:
            try:
                self._round_of_work()
            except FATAL as error:
                self.fail(error)

    def round_ended(self) -> None:
        """Let all calls of `until` test their conditions again."""
        for future in self.waiters:
            _resolve(future)

    async def until(self, condition: Callable[[], bool], deadline: float) -> None:
        """Return when `condition` holds after a round.

        Raises `DeadlineExceeded` if it does not hold in time, `ShuttingDown` if the node stops.
        """
        while not condition():
            if self.dead:
                raise ShuttingDown("the node has stopped")
            left = deadline - self.loop.time()
            if left <= 0:
                raise DeadlineExceeded("it did not happen in time")
            future: asyncio.Future[None] = self.loop.create_future()
            self.waiters[future] = None
            timer = self.loop.call_later(left, _resolve, future)
            try:
                await future
            finally:
                timer.cancel()
                del self.waiters[future]

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` as a task."""
        task = self.loop.create_task(self._guard(work))
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        # A task that is cancelled before its first step never awaits `work`.
        task.add_done_callback(lambda _: work.close())
        return task

    async def _guard(self, work: Awaitable[None]) -> None:
        try:
            await work
        except FATAL as error:
            self.fail(error)

    def stop(self, reason: BaseException | None) -> None:
        """Run no more rounds. Tasks go on until `settle`."""
        self.dead = True
        self.round_ended()
        self.stopped.set_result(reason)

    async def settle(self) -> None:
        """Cancel all tasks, and return when they have ended."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

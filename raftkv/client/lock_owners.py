"""Which task or thread of a client has which name, so that none waits for itself."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from raftkv.errors import LockReentered, printable

T = TypeVar("T")


def calling_task() -> asyncio.Task[object] | None:
    """The task that calls, None outside of any.

    Asked for when a coroutine is made, not when it runs: `asyncio.wait_for` of Python 3.11 and
    `create_task` run it in a task of its own, which ends at once and can't own anything.
    """
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs
        return None


def leave_block(blocks: dict[object, T], task: object) -> T:
    """Take out what the block of this task is under.

    `wait_for(stack.enter_async_context(lock))` of Python 3.11 enters it in a task of its own, which
    has ended by then.
    """
    if task not in blocks:
        ended = (each for each in blocks if isinstance(each, asyncio.Task) and each.done())
        task = next(ended, task)
    return blocks.pop(task)


class LockOwners:
    """Who holds which name or waits for it."""

    def __init__(self) -> None:
        self._owners: set[tuple[bytes, object]] = set()

    def add(self, name: bytes, owner: object) -> None:
        """Raises `LockReentered` if it is in already."""
        if (name, owner) in self._owners:
            raise LockReentered(
                f"this task or thread holds {printable(name)} already, or waits for it: it would"
                " wait for itself; release the lock first",
                name=name,
            )
        self._owners.add((name, owner))

    def remove(self, name: bytes, owner: object) -> None:
        """It waits no more and holds nothing."""
        self._owners.discard((name, owner))

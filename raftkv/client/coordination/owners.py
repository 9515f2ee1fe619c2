"""Which task or thread of a client owns which lock, so that none waits for itself."""

from __future__ import annotations

import asyncio
from typing import Protocol, TypeVar

from raftkv.errors import LockReentered, printable

T = TypeVar("T")


def calling_task() -> asyncio.Task[object] | None:
    """The task that calls, None outside of any.

    To be called when a coroutine is made, not when it runs: `asyncio.wait_for` of Python 3.11 and
    `create_task` run it in a task of its own, which ends at once and can't own anything.
    """
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs
        return None


def pop_block(blocks: dict[object, T], task: object) -> T:
    """Remove the block that this task runs, and return what it holds.

    `wait_for(stack.enter_async_context(lock))` of Python 3.11 enters it in a task of its own, which
    has ended by then.
    """
    if task not in blocks:
        ended = (each for each in blocks if isinstance(each, asyncio.Task) and each.done())
        task = next(ended, task)
    return blocks.pop(task)


class Owners(Protocol):
    """Records which owner, a task or a thread, has or awaits which name."""

    def add(self, name: bytes, owner: object) -> None: ...
    def remove(self, name: bytes, owner: object) -> None: ...


class LockOwners:
    """The owners of the locks of one client."""

    def __init__(self) -> None:
        self._owners: set[tuple[bytes, object]] = set()

    def add(self, name: bytes, owner: object) -> None:
        """Raises `LockReentered` if the owner is recorded for this name already."""
        if (name, owner) in self._owners:
            raise LockReentered(
                f"this task or thread holds {printable(name)} already, or waits for it: it would"
                " wait for itself; release the lock first",
                name=name,
            )
        self._owners.add((name, owner))

    def remove(self, name: bytes, owner: object) -> None:
        """The owner neither has the name nor waits for it any longer."""
        self._owners.discard((name, owner))

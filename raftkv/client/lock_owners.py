"""Which task or thread of a client has which name, so that none waits for itself."""

from __future__ import annotations

import asyncio

from raftkv.errors import LockReentered, printable


def calling_task() -> asyncio.Task[object] | None:
    """The task that calls, None outside of any.

    Asked for when a coroutine is made, not when it runs: `asyncio.wait_for` of Python 3.11 and
    `create_task` run it in a task of its own, which ends at once and can't own anything.
    """
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs
        return None


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

"""The base of a lock that is asked for again and again, and that ends by itself."""

from __future__ import annotations

import abc
import asyncio
import itertools
from collections.abc import Callable

from jepsen_lite.clients.protocol import LOCK_NOT_ACQUIRED, OperationError

TRY_AGAIN_S = 0.02
TRUST_SHARE = 0.9
"""Of the time to live, from the request on: a holder trusts its lock no longer than this."""
_values = itertools.count(1)


class PolledLock(abc.ABC):
    """A `Lock` on a store whose entries expire. A subclass takes and gives back one entry.

    The lock is not renewed: its holder reports it as lost before the entry can have expired.
    """

    def __init__(self, name: str, ttl_s: float) -> None:
        self.name = name
        self.ttl_s = ttl_s
        self._token = 0
        self._value = ""
        self._until_s = 0.0
        self._listeners: list[Callable[[], None]] = []

    @abc.abstractmethod
    async def take(self, value: str) -> int:
        """Store the value under the lock's name for `ttl_s` if nothing is there.

        Returns the token of the new holder, which is above 0; 0 if something is there.
        """

    @abc.abstractmethod
    async def give_back(self, value: str) -> bool:
        """Delete the value if it is still there; returns whether it was."""

    @property
    def token(self) -> int:
        return self._token

    def remaining_s(self) -> float:
        return max(0.0, self._until_s - asyncio.get_running_loop().time())

    def on_lost(self, callback: Callable[[], None]) -> None:
        self._listeners.append(callback)

    async def acquire(self, timeout_s: float | None = None) -> None:
        """Raises with reason `LOCK_NOT_ACQUIRED` if others held the lock all the time."""
        loop = asyncio.get_running_loop()
        give_up_s = float("inf") if timeout_s is None else loop.time() + timeout_s
        value = f"holder-{next(_values)}"
        while True:
            asked_s = loop.time()
            if token := await self.take(value):
                break
            if loop.time() > give_up_s:
                text = f"{self.name} was not acquired within {timeout_s} s"
                raise OperationError(text, reason=LOCK_NOT_ACQUIRED, refused=True)
            await asyncio.sleep(TRY_AGAIN_S)
        self._token, self._value = token, value
        self._until_s = asked_s + self.ttl_s * TRUST_SHARE
        loop.call_at(self._until_s, self._end, value)

    def _end(self, value: str) -> None:
        if self._value == value:
            self._value = ""
            for listener in self._listeners:
                listener()

    async def release(self) -> bool:
        value, self._value, self._until_s = self._value, "", 0.0
        return bool(value) and await self.give_back(value)

"""A counter. Knows one key and how to add to it once."""

from __future__ import annotations

import asyncio

from raftkv.arguments import to_int64
from raftkv.client.api.transactions import Transaction
from raftkv.client.client import Client
from raftkv.errors import Refused, printable
from raftkv.recipes.sharing import recipe_name, to_client


class Counter:
    """A number under one key, written in decimal digits; 0 while the key is absent.

        visits = Counter(client, "visits")
        now = await visits.add(1)

    Each addition happens once, however often its message is sent. One that nobody can say of
    whether it happened is `OutcomeUnknown`: look with `get`, and do not simply add again.
    """

    def __init__(self, client: Client, name: str | bytes) -> None:
        self.name = recipe_name(name)
        self._client = to_client(client)
        # Tasks that share a counter would only overtake each other.
        self._turn = asyncio.Lock()

    async def add(self, n: int = 1, *, timeout: float | None = None) -> int:
        """Add `n`, which may be negative; the new number.

        `timeout` counts from when the additions of this object that came before are done. Raises
        `TransactionConflict` if others were faster all that time, `OutcomeUnknown`, and `Refused`
        if something else than a number is there.
        """
        to_int64(n, "n")

        async def step(transaction: Transaction) -> int:
            number = self._number(await transaction.get(self.name)) + n
            transaction.put(self.name, str(number))
            return number

        async with self._turn:
            return await self._client.transaction(step, timeout=timeout)

    async def get(self, *, timeout: float | None = None) -> int:
        """The number now, read linearizably."""
        found = await self._client.get(self.name, timeout=timeout)
        return self._number(found.value if found else None)

    def _number(self, value: bytes | None) -> int:
        try:
            return int(value or b"0")
        except ValueError:
            raise Refused(
                f"{printable(self.name)} holds no number; use another name", name=self.name
            ) from None

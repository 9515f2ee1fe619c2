"""A counter: a number under one key, to which transactions add exactly once."""

from __future__ import annotations

import asyncio

from raftkv.arguments import to_int64
from raftkv.client.api.transactions import Transaction
from raftkv.client.client import Client
from raftkv.errors import Refused, printable
from raftkv.recipes._parameters import recipe_name, to_client


class Counter:
    """A number under one key, written in decimal digits; 0 while the key is absent.

        visits = Counter(client, "visits")
        now = await visits.add(1)

    Each addition happens once, however often its request is sent. After `OutcomeUnknown` the
    addition may have happened: read with `get` before you add again. `name` is the key, a `str` or
    `bytes` of 1 to 8,192 bytes.
    """

    name: bytes
    """The key of the counter."""

    def __init__(self, client: Client, name: str | bytes) -> None:
        self.name = recipe_name(name)
        self._client = to_client(client)
        # Concurrent transactions of one counter would only conflict with each other.
        self._turn = asyncio.Lock()

    async def add(self, n: int = 1, *, timeout: float | None = None) -> int:
        """Add `n`, which may be negative; returns the new number.

        A read and a write in one transaction, repeated when another client changed the number
        meanwhile. Additions through one object run one after the other. `timeout` is in seconds and
        starts when the earlier additions of this object are done; None: the client's default,
        0: one attempt. Raises `TransactionConflict` if every attempt was overtaken by other
        clients, `DeadlineExceeded` if nothing was changed, `OutcomeUnknown`, and `Refused` if the
        key holds no number.
        """
        to_int64(n, "n")

        async def step(transaction: Transaction) -> int:
            number = self._number(await transaction.get(self.name)) + n
            transaction.put(self.name, str(number))
            return number

        async with self._turn:
            return await self._client.transaction(step, timeout=timeout)

    async def get(self, *, timeout: float | None = None) -> int:
        """The number now; 0 while the key is absent. One linearizable read.

        `timeout` is in seconds; None: the client's default, 0: one attempt. Raises
        `DeadlineExceeded`, and `Refused` if the key holds no number.
        """
        found = await self._client.get(self.name, timeout=timeout)
        return self._number(found.value if found else None)

    def _number(self, value: bytes | None) -> int:
        try:
            return int(value or b"0")
        except ValueError:
            raise Refused(
                f"{printable(self.name)} holds no number; use another name", name=self.name
            ) from None

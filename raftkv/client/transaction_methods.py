"""Transactions given as functions, on the client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from raftkv.arguments import to_callable
from raftkv.client.kv_methods import KvMethods
from raftkv.client.op import Operation
from raftkv.client.results import RangeResult, TransactionResult
from raftkv.client.retry import Backoff
from raftkv.client.transactions import Attempts, Transaction
from raftkv.client.when import Compare

T = TypeVar("T")


class TransactionMethods(KvMethods):
    """Read, decide and write as one step."""

    async def transaction(
        self,
        function: Callable[[Transaction], Awaitable[T]],
        *,
        timeout: float | None = None,
    ) -> T:
        """Run `function` as a transaction, strictly serializable; returns what it returns.

            async def transfer(tx: raftkv.Transaction) -> int:
                left = int(await tx.get("alice") or 0) - 5
                tx.put("alice", str(left))
                tx.put("bob", str(int(await tx.get("bob") or 0) + 5))
                return left

            left = await client.transaction(transfer)

        It is called again, from the start, when somebody else changed what it had read: so it must
        have no effects but those on `tx`. Raises `TransactionConflict` if that goes on until
        `timeout`, `OutcomeUnknown` if nobody can say whether it was applied.
        """
        return await self._attempts(timeout).run(to_callable(function, "function"))

    def _attempts(self, timeout: float | None) -> Attempts:
        left_s, settings = self._countdown(self._timeout(timeout)), self._settings
        backoff = Backoff(self._rng, settings.backoff_s_min, settings.backoff_s_max)
        return Attempts(_Store(self, left_s), backoff, left_s)


class _Store:
    """The client with what is left of the transaction's time."""

    def __init__(self, client: KvMethods, left_s: Callable[[], float]) -> None:
        self._client = client
        self._left_s = left_s

    async def read(self, start: bytes, end: bytes, revision: int) -> RangeResult:
        if not end:  # the range of a single key: the shortest that holds it
            end = start + b"\x00"
        return await self._client.range(start, end, revision=revision, timeout=self._left_s())

    async def commit(
        self, compare: Sequence[Compare], success: Sequence[Operation]
    ) -> TransactionResult:
        return await self._client.txn(compare, success, timeout=self._left_s())

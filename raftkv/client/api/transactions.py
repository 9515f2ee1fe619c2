"""Transactions that are given as functions: the client's method, and their attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from raftkv.arguments import to_bytes, to_callable, to_int64
from raftkv.backoff import Backoff
from raftkv.client.api.kv import KvMethods
from raftkv.client.model import op, when
from raftkv.client.model.op import Operation
from raftkv.client.model.results import RangeResult, TransactionResult
from raftkv.client.model.when import Compare
from raftkv.client.requests import prefix_range
from raftkv.errors import RevisionCompacted, TransactionConflict

T = TypeVar("T")


class TransactionMethods(KvMethods):
    """Transactions that are given as functions: read, decide and write as one step.

    They are optimistic and lock nothing: all reads of an attempt are of one revision, its writes
    are kept back, and one command at the end applies them if nothing that was read has changed.
    """

    async def transaction(
        self,
        function: Callable[[Transaction], Awaitable[T]],
        *,
        timeout: float | None = None,
    ) -> T:
        """Run `function` as a transaction, strictly serializable; returns what the function
        returns.

            async def transfer(tx: raftkv.Transaction) -> int:
                left = int(await tx.get("alice") or 0) - 5
                tx.put("alice", str(left))
                tx.put("bob", str(int(await tx.get("bob") or 0) + 5))
                return left

            left = await client.transaction(transfer)

        The function is called again, from the start, when another client changed what it had read.
        So it must have no effects but those on `tx`.

        - `timeout`: seconds for all attempts; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises what the function raises; `TransactionConflict` if every attempt until `timeout` was
        overtaken by other clients; `DeadlineExceeded` if nothing was changed; `OutcomeUnknown` if
        the last attempt may have been applied; `TooLarge` for more than 128 reads or writes;
        `WrongCluster`. Costs a read for each `get` and `range`, and one write for each attempt that
        writes.
        """
        return await self._attempts(timeout).run(to_callable(function, "function"))

    def _attempts(self, timeout: float | None) -> Attempts:
        left_s, settings = self._countdown(self._timeout(timeout)), self._settings
        backoff = Backoff(self._rng, settings.backoff_s_min, settings.backoff_s_max)
        return Attempts(_ClientTransactionStore(self, left_s), backoff, left_s)


class _ClientTransactionStore:
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


class TransactionStore(Protocol):
    """What a transaction needs of a client. `end` empty: the single key; `revision` 0: now."""

    async def read(self, start: bytes, end: bytes, revision: int) -> RangeResult: ...

    async def commit(
        self, compare: Sequence[Compare], success: Sequence[Operation]
    ) -> TransactionResult: ...


@dataclass(frozen=True, slots=True)
class _Written:
    value: bytes
    lease: int


class Transaction:
    """One attempt of a transaction: what it has read, and what it will write. Handed to the
    function.

    All reads of an attempt are of the revision of the first one, and show the attempt's own writes.
    """

    def __init__(self, store: TransactionStore) -> None:
        self._store = store
        self._revision = 0  # that all reads see; 0: nothing was read yet
        self._first = asyncio.Lock()
        self._seen: dict[bytes, int] = {}  # key -> its mod_revision, 0: absent
        self._ranges: set[tuple[bytes, bytes]] = set()
        self._writes: dict[bytes, _Written | None] = {}

    async def get(self, key: str | bytes) -> bytes | None:
        """The value of `key`, None if it is absent; own writes show. Costs one read."""
        wanted = to_bytes(key, "key")
        if wanted in self._writes:
            written = self._writes[wanted]
            return None if written is None else written.value
        found = await self._read(wanted, b"")
        self._seen[wanted] = found.kvs[0].mod_revision if found.kvs else 0
        return found.kvs[0].value if found.kvs else None

    async def range(self, start: str | bytes, end: str | bytes) -> dict[bytes, bytes]:
        """Keys and values from `start` up to and without `end`, sorted; own writes show.

        The commit compares each key of the result: keep it well below the 128 that a transaction
        may. Costs one read.
        """
        first, last = to_bytes(start, "start"), to_bytes(end, "end")
        found = await self._read(first, last)
        self._ranges.add((first, last))
        self._seen.update((kv.key, kv.mod_revision) for kv in found.kvs)
        values = {kv.key: kv.value for kv in found.kvs}
        for key, written in self._writes.items():
            if first <= key and (key < last or last == b"\x00"):
                values.pop(key, None)
                if written is not None:
                    values[key] = written.value
        return dict(sorted(values.items()))

    async def prefix(self, prefix: str | bytes) -> dict[bytes, bytes]:
        """Keys that start with `prefix`, and their values, sorted. Otherwise as `range`."""
        return await self.range(*prefix_range(prefix))

    def put(self, key: str | bytes, value: str | bytes, *, lease: int = 0) -> None:
        """Set `key` to `value` when the transaction commits, attached to `lease` unless that is
        0.
        """
        self._writes[to_bytes(key, "key")] = _Written(
            to_bytes(value, "value"), to_int64(lease, "lease")
        )

    def delete(self, key: str | bytes) -> None:
        """Delete `key` when the transaction commits."""
        self._writes[to_bytes(key, "key")] = None

    async def commit(self) -> bool:
        """Apply the writes if all that was read is as it was; False, and nothing happens, if not.

        Without writes there is nothing to check: all reads were of one revision.
        """
        if not self._writes:
            return True
        compare = [when.mod_revision(key) == seen for key, seen in self._seen.items()]
        compare += [
            when.mod_revision(start, end) < self._revision + 1 for start, end in self._ranges
        ]
        success = [
            op.delete(key) if written is None else op.put(key, written.value, lease=written.lease)
            for key, written in self._writes.items()
        ]
        return (await self._store.commit(compare, success)).succeeded

    async def _read(self, start: bytes, end: bytes) -> RangeResult:
        if not self._revision:
            # Reads issued side by side must not fix one revision each.
            async with self._first:
                if not self._revision:
                    found = await self._store.read(start, end, 0)
                    self._revision = found.revision
                    return found
        return await self._store.read(start, end, self._revision)


class Attempts:
    """One attempt after the other, with a pause in between, while `left_s` is above 0."""

    def __init__(
        self, store: TransactionStore, backoff: Backoff, left_s: Callable[[], float]
    ) -> None:
        self._store = store
        self._backoff = backoff
        self._left_s = left_s
        self._begun = 0

    def begin(self) -> Transaction:
        """The next attempt."""
        self._begun += 1
        return Transaction(self._store)

    async def conflicted(self) -> None:
        """The last attempt did not commit: pause before the next one.

        Raises `TransactionConflict` if there is no time left.
        """
        pause_s = self._backoff.next_s()
        if pause_s >= self._left_s():
            raise TransactionConflict(
                f"others changed what it had read, in each of {self._begun} attempts; give it more"
                " time, or let fewer write the same keys at once",
                attempts=self._begun,
            )
        await asyncio.sleep(pause_s)

    async def run(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        """Call `function` until an attempt commits; returns the result of that call."""
        while True:
            transaction = self.begin()
            # If the revision of its reads was compacted, the next attempt reads at a new one.
            with suppress(RevisionCompacted):
                result = await function(transaction)
                if await transaction.commit():
                    return result
            await self.conflicted()

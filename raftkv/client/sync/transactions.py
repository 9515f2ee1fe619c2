"""The synchronous twin of a transaction: the caller's function runs on the caller's thread."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from raftkv.arguments import to_callable
from raftkv.client.api.transactions import Attempts, Transaction
from raftkv.client.sync.portal import Portal
from raftkv.errors import RevisionCompacted

T = TypeVar("T")


class SyncTransaction:
    """One attempt, as `Transaction`, whose methods these are."""

    def __init__(self, transaction: Transaction, portal: Portal) -> None:
        self._transaction = transaction
        self._call = portal.call
        self.put = transaction.put
        self.delete = transaction.delete

    def get(self, key: str | bytes) -> bytes | None:
        """The value of `key`, None if it is absent; its own writes show."""
        return self._call(self._transaction.get, key)

    def range(self, start: str | bytes, end: str | bytes) -> dict[bytes, bytes]:
        """Keys and values from `start` up to and without `end`, as `Transaction.range`."""
        return self._call(self._transaction.range, start, end)

    def prefix(self, prefix: str | bytes) -> dict[bytes, bytes]:
        """Keys that start with `prefix`, and their values."""
        return self._call(self._transaction.prefix, prefix)


def run_on_this_thread(
    attempts: Attempts, function: Callable[[SyncTransaction], T], portal: Portal
) -> T:
    """As `Attempts.run`."""
    to_callable(function, "function")
    while True:
        transaction = attempts.begin()
        with suppress(RevisionCompacted):
            result = function(SyncTransaction(transaction, portal))
            if portal.call(transaction.commit):
                return result
        portal.call(attempts.lost)

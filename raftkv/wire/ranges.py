"""Ranges of keys and read-only transactions, as both sides of the wire read them.

On the wire a range without end has the end `NO_END`; inside of a node it has None.
"""

from __future__ import annotations

from typing import Final

from raftkv.errors import InvalidRequest
from raftkv.rpc.v1 import kv_pb2

NO_END: Final = b"\x00"
"""The range_end of every key from the range's start on."""


def exclusive_end(key: bytes, range_end: bytes) -> bytes | None:
    """The exclusive end of the wire's [key, range_end), None if it has none. Never before `key`."""
    return None if range_end == NO_END else max(key, range_end)


def prefix_end(prefix: bytes) -> bytes | None:
    """The first key past all keys that begin with `prefix`, None if there is none."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes((trimmed[-1] + 1,)) if trimmed else None


def check_reads_only(transaction: kv_pb2.Transaction) -> None:
    """Raise `InvalidRequest` if an operation of a read-only transaction would change something."""
    for operation in (*transaction.success, *transaction.failure):
        kind = operation.WhichOneof("operation")
        if kind == "transaction":
            check_reads_only(operation.transaction)
        elif kind != "range":
            raise InvalidRequest(
                f"a read-only transaction holds a {kind}; use txn, which runs as a command",
                field="operation",
            )

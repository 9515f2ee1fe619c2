"""What both sides of the wire check of a transaction."""

from __future__ import annotations

from raftkv.errors import InvalidRequest
from raftkv.rpc.v1 import kv_pb2


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

"""What both sides of the wire check of a transaction."""

from __future__ import annotations

import pytest

from raftkv.errors import InvalidRequest
from raftkv.rpc.v1 import kv_pb2
from raftkv.wire.transactions import check_reads_only

READ = kv_pb2.Operation(range=kv_pb2.Range(key=b"k"))


def test_a_transaction_of_reads_passes_however_deep() -> None:
    inner = kv_pb2.Operation(transaction=kv_pb2.Transaction(success=[READ], failure=[READ]))
    check_reads_only(kv_pb2.Transaction(success=[READ, inner], failure=[inner]))


@pytest.mark.parametrize("branch", ["success", "failure"])
@pytest.mark.parametrize("kind", ["put", "delete_range"])
def test_a_change_is_refused_in_either_branch_and_named(branch: str, kind: str) -> None:
    change = kv_pb2.Operation()
    getattr(change, kind).key = b"k"
    inner = kv_pb2.Operation(transaction=kv_pb2.Transaction(**{branch: [READ, change]}))
    with pytest.raises(InvalidRequest, match=f"holds a {kind}") as refused:
        check_reads_only(kv_pb2.Transaction(**{branch: [inner]}))
    assert refused.value.facts == {"field": "operation"}


def test_an_operation_that_is_not_set_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="holds a None"):
        check_reads_only(kv_pb2.Transaction(success=[kv_pb2.Operation()]))

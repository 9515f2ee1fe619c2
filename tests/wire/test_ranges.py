"""Ranges of keys and read-only transactions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.errors import InvalidRequest
from raftkv.rpc.v1 import kv_pb2
from raftkv.wire.ranges import NO_END, check_reads_only, exclusive_end, prefix_end

BYTES = st.lists(st.sampled_from([0, 1, 2, 0xFE, 0xFF]), max_size=5).map(bytes)
READ = kv_pb2.Operation(range=kv_pb2.Range(key=b"k"))


@given(BYTES, BYTES)
def test_the_end_of_a_prefix_is_past_all_that_begin_with_it(prefix: bytes, key: bytes) -> None:
    end = prefix_end(prefix)
    inside = prefix <= key and (end is None or key < end)
    assert inside is key.startswith(prefix)


def test_a_range_without_end_on_the_wire_has_none() -> None:
    assert exclusive_end(b"b", NO_END) is None
    assert exclusive_end(b"b", b"c") == b"c"


def test_a_range_never_ends_before_its_start() -> None:
    assert exclusive_end(b"b", b"a") == b"b"


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

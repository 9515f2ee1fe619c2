"""Transactions written as text mean what they say, and nonsense is named."""

from __future__ import annotations

import pytest

from raftkv import op, when
from raftkv.cli.txn import parse_condition, parse_operation
from raftkv.client.when import Compare
from raftkv.errors import InvalidRequest
from tests.cli.conftest import FakeClient, Raftkv


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("value(k) = v", when.value("k") == "v"),
        ("value(k)=v", when.value("k") == "v"),
        ('value("a (b)") = "x = y"', when.value("a (b)") == "x = y"),
        ("value(k) != ''", when.value("k") != ""),
        ("version(k) > 3", when.version("k") > 3),
        ("create(k) < 3", when.create_revision("k") < 3),
        ("mod(k) != 3", when.mod_revision("k") != 3),
        ("lease(k) = 7", when.lease("k") == 7),
        ("exists(k)", when.exists("k")),
        (" absent (k) ", when.absent("k")),
    ],
)
def test_a_condition_is_read(text: str, condition: Compare) -> None:
    assert parse_condition(text) == condition


@pytest.mark.parametrize(
    "text",
    ["", "k = v", "value(k)", "value() = 1", "size(k) = 1", "version(k) = x", "exists(k) = 1"],
)
def test_a_condition_that_cannot_be_read_is_quoted(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_condition(text)
    assert repr(text) in caught.value.message


@pytest.mark.parametrize(
    ("text", "operation"),
    [
        ("put k v", op.put("k", "v")),
        ("put k 'two words'", op.put("k", "two words")),
        ("get k", op.get("k")),
        ("range a b", op.range("a", "b")),
        ("del k", op.delete("k")),
        ("del a b", op.delete_range("a", "b")),
    ],
)
def test_an_operation_is_read(text: str, operation: op.Operation) -> None:
    assert parse_operation(text) == operation


@pytest.mark.parametrize("text", ["", "put k", "get", "drop k", "put 'k v"])
def test_an_operation_that_cannot_be_read_is_quoted(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_operation(text)
    assert repr(text) in caught.value.message


def test_an_empty_transaction_is_refused(raftkv: Raftkv, client: FakeClient) -> None:
    ran = raftkv("txn")
    assert ran.code == 2
    assert "--then" in ran.err

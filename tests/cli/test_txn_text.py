"""The text form of transactions: its meaning, and the errors for invalid text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv import op, when
from raftkv.cli.txn_text import parse_condition, parse_operation
from raftkv.client.model.when import Compare
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


SAME_ON_BOTH_SIDES = [
    ('{"a":1}', '{"a":1}'),
    ("it's", "it's"),
    (r"C:\dir", r"C:\dir"),
    ('"a\\"b"', 'a"b'),
    (r'"a\\b\c"', r"a\b\c"),
    ("""'{"a": 1}'""", '{"a": 1}'),
    (r"'a\'", "a\\"),
    ('"it\'s"', "it's"),
    ("''", ""),
    ("\u00a0", "\u00a0"),
    ("\n a \t", "a"),
]


@pytest.mark.parametrize(("text", "value"), SAME_ON_BOTH_SIDES)
def test_a_text_means_the_same_in_conditions_and_operations(text: str, value: str) -> None:
    assert parse_operation(f"put k {text}") == op.put("k", value)
    assert parse_condition(f"value(k) = {text}") == (when.value("k") == value)
    assert parse_condition(f"value(k)={text}") == (when.value("k") == value)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@settings(max_examples=50)
@given(key=st.text(min_size=1), value=st.text())
def test_every_text_can_be_written_in_quotes(key: str, value: str) -> None:
    assert parse_operation(f"put {quoted(key)} {quoted(value)}") == op.put(key, value)
    condition = f"value({quoted(key)}) = {quoted(value)}"
    assert parse_condition(condition) == (when.value(key) == value)


@pytest.mark.parametrize(
    ("text", "position", "fix"),
    [
        ('put k {"a": 1}', 13, "in quotes"),
        ("put k two words", 11, "in quotes"),
        ('put k "a"b', 10, "in quotes"),
        ('put "k"v', 8, "in quotes"),
        ('put k "a', 7, "not closed"),
        ("put k", 6, "''"),
        ("get k \\", 7, "in quotes"),
        ("drop k", 1, "put KEY VALUE"),
    ],
)
def test_an_operation_is_refused_with_the_position_and_the_fix(
    text: str, position: int, fix: str
) -> None:
    with pytest.raises(InvalidRequest, match=rf"can't be read at character {position}\b") as caught:
        parse_operation(text)
    assert fix in caught.value.message


@pytest.mark.parametrize(
    ("text", "position", "fix"),
    [
        ("value(k) = two words", 16, "in quotes"),
        ('value(k) = "a"b', 15, "in quotes"),
        ("value(k) =", 11, "''"),
        ("value(k) == v", 11, "in quotes"),
        ("value(k) <= v", 11, "no sign"),
        ("value(a(b)) = v", 11, "one of = != < >"),
        ("value(my key) = v", 10, "in quotes"),
        ("version(k) = x", 14, "whole number"),
        ("size(k) = 1", 1, "value(KEY)"),
        ("exists(k) = 1", 11, "in quotes"),
    ],
)
def test_a_condition_is_refused_with_the_position_and_the_fix(
    text: str, position: int, fix: str
) -> None:
    with pytest.raises(InvalidRequest, match=rf"can't be read at character {position}\b") as caught:
        parse_condition(text)
    assert fix in caught.value.message


def test_an_empty_transaction_is_refused(raftkv: Raftkv, client: FakeClient) -> None:
    ran = raftkv("txn")
    assert ran.code == 2
    assert "--then" in ran.err

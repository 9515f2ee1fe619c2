"""Transactions whose answers differ from those of the model are found, and so is a wrong order."""

from __future__ import annotations

from typing import Any

import pytest

from jepsen_lite.checkers import transactions
from jepsen_lite.checkers.key_model import KeyModel, content, symbol
from jepsen_lite.history import Operation
from jepsen_lite.verdicts import Validity
from tests.jepsen_lite.checkers.histories import (
    FAIL,
    INFO,
    assert_valid,
    only_problem,
    operation,
    texts,
)

ROW = ["a", "v1*20", 2, 2, 1, 0]


def txn(
    began: int, name: str, revision: int, answers: Any, *operations: Any, compare: Any = ()
) -> Operation:
    """A transaction that puts its name last, as all of them do."""
    value = {"compare": list(compare), "success": [*operations, ["put", name, ""]], "failure": []}
    returned = [revision, [True, [*answers, None]]]
    return operation(began, began, began + 1, "txn", value, returned, key=name)


def unsure(began: int, name: str, *operations: Any, kind: Any = INFO) -> Operation:
    value = {"compare": [], "success": [*operations, ["put", name, ""]], "failure": []}
    return operation(began, began, began + 1, "txn", value, None, kind, key=name)


def read(began: int, revision: int, *rows: Any, at: int = 0) -> Operation:
    value = ["a", "c", at, 0]
    return operation(began, began, began + 1, "read", value, [revision, list(rows)])


def log(*names: tuple[str, int]) -> Operation:
    return operation(99, 90, 91, "log", None, [list(each) for each in names])


PUT = txn(0, "t1", 2, [None], ["put", "a", "v1*20"])


def test_answers_and_reads_that_the_model_gives_are_valid() -> None:
    second = txn(2, "t2", 3, [[[ROW], False]], ["delete", "a", "b", 0])
    reads = [read(4, 3), read(6, 2, ROW, at=2)]
    assert_valid(transactions.check([PUT, second, *reads, log(("t1", 2), ("t2", 3))]))


def test_a_transaction_of_unknown_outcome_counts_if_the_log_has_it() -> None:
    maybe = unsure(2, "t2", ["delete", "a", "", 0])
    happened = [PUT, maybe, read(4, 3), log(("t1", 2), ("t2", 3))]
    assert_valid(transactions.check(happened))
    without = [PUT, maybe, read(4, 3), log(("t1", 2))]
    assert "shows nothing where ['a'" in only_problem(transactions.check(without))


@pytest.mark.parametrize(
    ("history", "text"),
    [
        ([PUT, log()], "is lost"),
        ([PUT, log(("t1", 3))], "took effect at revision 3, but"),
        ([unsure(0, "t1", kind=FAIL), log(("t1", 2))], "observed that it failed"),
        ([PUT, read(4, 2), log(("t1", 2))], "shows nothing where"),
        ([PUT, read(4, 1), log(("t1", 2))], "is at revision 1, after"),
        ([PUT, txn(2, "t2", 2, []), log(("t1", 2), ("t2", 2))], "two transactions took effect"),
        ([txn(0, "t2", 3, []), txn(2, "t3", 2, []), log(("t2", 3), ("t3", 2))], "was over"),
        (
            [PUT, txn(2, "t2", 3, [None], ["put", "a", ""]), log(("t1", 2), ("t2", 3))],
            "returned nothing where",
        ),
        ([log(("t1", 2))], "never requested"),
    ],
)
def test_a_false_history_is_found(history: list[Operation], text: str) -> None:
    found = transactions.check(history)
    assert found.validity is Validity.INVALID
    assert text in texts(found)


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        (["value", "=", "a", "", "v1*20"], True),
        (["value", "!=", "b", "", "v1*20"], False),
        (["version", "<", "b", "", 1], True),
        (["mod_revision", ">", "a", "c", 1], True),
        (["create_revision", "=", "b", "c", 0], True),
        (["version", "=", "a", "c", 2], False),
    ],
)
def test_compares_of_keys_and_ranges(compare: list[Any], holds: bool) -> None:
    model = KeyModel()
    model.apply({"compare": [], "success": [["put", "a", "v1*20"]], "failure": []}, 2)
    answer = model.apply({"compare": [compare], "success": [], "failure": []}, 3)
    assert answer == [holds, []]


@pytest.mark.parametrize("name", ["", "v7*20", "v12345*1048576"])
def test_a_symbol_stands_for_its_text(name: str) -> None:
    assert symbol(content(name)) == name


def test_a_damaged_text_has_no_symbol() -> None:
    text = content("v7*1000")
    assert "no value that was written" in symbol(f"{text[:500]}x{text[501:]}")

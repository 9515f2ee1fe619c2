"""A set that loses, hides or invents an element is found, by its name."""

from __future__ import annotations

import pytest

from jepsen_lite.checkers import sets
from jepsen_lite.history import Operation
from jepsen_lite.verdicts import Validity
from tests.jepsen_lite.checkers.histories import (
    FAIL,
    INFO,
    assert_valid,
    only_problem,
    operation,
)

ADDED = operation(1, 0, 1, "add", 1)


def read(began: int, *elements: int) -> Operation:
    return operation(2, began, began + 1, "read", None, list(elements))


def test_acknowledged_and_unknown_elements_may_show_and_concurrent_ones_need_not() -> None:
    concurrent = operation(3, 2, 9, "add", 3)
    lost = operation(4, 0, 1, "add", 4, kind=INFO)
    assert_valid(sets.check([ADDED, concurrent, lost, read(3, 1), read(10, 1, 3, 4)]))


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([ADDED, read(2, 1), read(4)], "lost: process 1 added 1"),
        ([ADDED, read(2), read(4, 1)], "stale: process 1 added 1"),
        ([ADDED, read(2, 1, 2)], "never added: process 2 read 2"),
        ([ADDED, operation(3, 0, 1, "add", 2, kind=FAIL), read(2, 1, 2)], "failed: process 2"),
        ([ADDED, read(2, 1, 2), operation(3, 8, 9, "add", 2)], "before process 3 added it"),
        ([ADDED, read(2, 1, 1)], "more than once"),
    ],
)
def test_each_anomaly_is_named(history: list[Operation], expected: str) -> None:
    assert expected in only_problem(sets.check(history))


def test_a_set_without_a_read_is_unknown() -> None:
    assert sets.check([ADDED]).validity is Validity.UNKNOWN


def test_a_lost_element_is_reported_once_however_many_reads_lack_it() -> None:
    assert "lost" in only_problem(sets.check([ADDED, read(2), read(4), read(6)]))


def test_an_element_read_once_must_stay_even_if_its_add_is_unknown() -> None:
    unknown_add = operation(1, 0, 1, "add", 1, kind=INFO)
    assert "vanished: " in only_problem(sets.check([unknown_add, read(2, 1), read(4)]))


def test_an_unknown_element_may_never_show_or_show_late() -> None:
    unknown_add = operation(1, 0, 1, "add", 1, kind=INFO)
    assert_valid(sets.check([unknown_add, read(2), read(4, 1), read(6, 1)]))

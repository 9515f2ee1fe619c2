"""A queue whose sweeps lose, repeat or leave elements is found, by its name."""

from __future__ import annotations

import pytest

from jepsen_lite.checkers import queues
from jepsen_lite.history import Operation
from jepsen_lite.verdicts import Validity
from tests.jepsen_lite.checkers.histories import FAIL, INFO, assert_valid, only_problem, operation

ADDED = operation(1, 0, 1, "add", 1)
ALSO = operation(1, 2, 3, "add", 2)


def read(began: int, *elements: int) -> Operation:
    return operation(2, began, began + 1, "read", None, list(elements))


def sweep(
    began: int, *gone: int, more: bool = False, limit: int = 2, process: int = 3
) -> Operation:
    return operation(process, began, began + 1, "sweep", limit, {"gone": list(gone), "more": more})


def test_elements_are_there_until_a_sweep_takes_them() -> None:
    assert_valid(
        queues.check(
            [ADDED, ALSO, read(4, 1, 2), sweep(6, 1, more=True, limit=1), read(8, 2), sweep(10, 2)]
        )
    )


def test_unknown_sweeps_may_have_taken_as_many_as_they_may() -> None:
    lost = operation(4, 4, 5, "sweep", 1, kind=INFO)
    assert_valid(queues.check([ADDED, ALSO, lost, read(9, 2)]))
    assert "lost" in only_problem(queues.check([ADDED, ALSO, lost, read(9)]))


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([ADDED, read(4)], "lost: process 2's read"),
        ([ADDED, sweep(2, 1), sweep(4, 1, process=5), read(6)], "swept twice: process 3 and"),
        ([ADDED, ALSO, sweep(4, 1, 2, limit=1), read(6)], "more than its limit of 1"),
        ([ADDED, sweep(2, 1), read(6, 1)], "came back: process 3 took 1"),
        ([ADDED, sweep(2), read(6, 1)], "left behind: process 3"),
        ([ADDED, sweep(2), sweep(4, 1, process=5), read(6)], "left behind: process 3"),
        ([read(2, 7)], "never added: process 2 observed 7"),
        ([operation(1, 0, 1, "add", 1, kind=FAIL), read(2, 1)], "never added"),
        ([sweep(2, 7), read(4)], "never added: process 3 observed 7"),
    ],
)
def test_what_is_wrong_is_named(history: list[Operation], expected: str) -> None:
    assert expected in only_problem(queues.check(history))


def test_a_queue_that_was_never_read_is_not_judged() -> None:
    assert queues.check([ADDED]).validity is Validity.UNKNOWN

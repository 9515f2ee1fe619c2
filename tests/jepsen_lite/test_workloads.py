"""Each workload's check refuses the history that it is there to find."""

from __future__ import annotations

from typing import Any

import pytest

from jepsen_lite.history import Event, History, Kind
from jepsen_lite.verdicts import texts_of
from jepsen_lite.workloads.base import Workload
from jepsen_lite.workloads.counter import Counter
from jepsen_lite.workloads.register import Register
from jepsen_lite.workloads.sets import GrowingSet

INVOKE, OK, FAIL, INFO = Kind.INVOKE, Kind.OK, Kind.FAIL, Kind.INFO
Line = tuple[int, Kind, str, Any]


def judge(workload: Workload, key: str, lines: list[Line]) -> list[str]:
    history = History()
    for time_ns, (process, kind, function, value) in enumerate(lines):
        history.append(Event(time_ns, process, kind, workload.name, function, key, value))
    return [text for finding in workload.check(history) for text in texts_of(finding)]


def increment(process: int, value: str, kind: Kind, told: Any = None) -> list[Line]:
    return [(process, INVOKE, "increment", value), (process, kind, "increment", told or value)]


def trace(*versions: tuple[int, str, int]) -> list[Line]:
    return [(9, INVOKE, "trace", None), (9, OK, "trace", [list(each) for each in versions])]


def test_increments_that_took_effect_once_pass() -> None:
    lines = [
        *increment(1, "i1", OK, ["i1", 2]),
        *increment(2, "i2", INFO),
        *increment(3, "i3", FAIL),
        *trace((2, "i2", 3), (1, "i1", 2)),
    ]
    assert judge(Counter(), "counter", lines) == []


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([*increment(1, "i1", OK, ["i1", 2]), *trace()], "acknowledged and is lost"),
        (
            [*increment(1, "i1", INFO), *trace((2, "i1", 3), (1, "i1", 2))],
            "took effect 2 times",
        ),
        ([*increment(1, "i1", FAIL), *trace((1, "i1", 2))], "told that it failed"),
        ([*increment(1, "i1", OK, ["i1", 5]), *trace((1, "i1", 2))], "was told 5"),
        ([*trace((1, "i7", 2))], "never written"),
        ([*increment(1, "i1", INFO)], "never read"),
        (
            [
                *increment(1, "i1", OK, ["i1", 2]),
                (2, INVOKE, "read", None),
                (2, OK, "read", 0),
                *trace((1, "i1", 2)),
            ],
            "read 0, where 1 to 1 were possible",
        ),
    ],
)
def test_an_increment_lost_doubled_or_misreported_is_found(lines: list[Line], problem: str) -> None:
    (found,) = judge(Counter(), "counter", lines)
    assert problem in found


@pytest.mark.parametrize(
    ("added", "read", "problem"),
    [
        (OK, [], "lacks acknowledged [1]"),
        (FAIL, [1], "shows failed [1]"),
        (INFO, [1, 2], "shows never added [2]"),
    ],
)
def test_a_set_that_loses_or_invents_is_found(added: Kind, read: list[int], problem: str) -> None:
    lines: list[Line] = [
        (1, INVOKE, "add", 1),
        (1, added, "add", 1),
        (2, INVOKE, "read", None),
        (2, OK, "read", read),
    ]
    (found,) = judge(GrowingSet(), "set/", lines)
    assert problem in found


def test_a_failed_write_that_shows_is_found() -> None:
    lines: list[Line] = [
        (1, INVOKE, "write", "v1"),
        (1, FAIL, "write", "v1"),
        (2, INVOKE, "read", None),
        (2, OK, "read", ["v1"]),
    ]
    (found,) = judge(Register(1), "register/0", lines)
    assert "illegal" in found


def test_an_unseen_write_that_a_seen_swap_needed_is_not_left_out() -> None:
    lines: list[Line] = [
        (1, INVOKE, "write", "v1"),
        (1, INFO, "write", "v1"),
        (2, INVOKE, "cas", ["v1", "v2"]),
        (2, INFO, "cas", ["v1", "v2"]),
        (3, INVOKE, "read", None),
        (3, OK, "read", ["v2"]),
    ]
    assert judge(Register(1), "register/0", lines) == []

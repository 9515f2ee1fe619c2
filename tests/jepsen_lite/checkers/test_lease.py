"""Leases that end too early or too late and elections that lie are found."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepsen_lite.checkers import election, lease
from jepsen_lite.history import Kind, Operation
from jepsen_lite.verdicts import Validity
from tests.jepsen_lite.checkers.histories import INFO, OK, assert_valid, only_problem, operation

TTL = 100
LATE = 20


def grant(began: int = 0, ended: int = 5) -> Operation:
    return operation(1, began, ended, "grant", {"ttl_ns": TTL})


def renew(began: int, kind: Kind = OK) -> Operation:
    return operation(1, began, began + 5, "renew", kind=kind)


def look(began: int, lives: bool) -> Operation:
    return operation(2, began, began + 2, "look", None, lives)


@pytest.mark.parametrize(
    "history",
    [
        [grant(), look(90, True), look(98, False)],
        [grant(), look(125, True), look(130, False)],
        [grant(), renew(50), look(148, False)],
        [grant(), renew(50), look(175, True)],
        [grant(), operation(1, 10, 11, "revoke", kind=INFO), look(20, False)],
        [grant(), renew(50, INFO), look(110, False)],
        [grant(), renew(50, INFO), look(900, True)],
    ],
)
def test_a_lease_that_lives_as_long_as_it_should_is_valid(history: list[Operation]) -> None:
    assert_valid(lease.check(history, LATE))


@pytest.mark.parametrize(
    ("says", "history"),
    [
        ("too early: process 1's grant", [grant(), look(50, False)]),
        ("too early: process 1's renew", [grant(), renew(50), look(120, False)]),
        ("after it had to be gone", [grant(), look(126, True)]),
        ("after it had to be gone", [grant(), renew(50), look(176, True)]),
        ("saw the lease again", [grant(), look(100, False), look(105, True)]),
    ],
)
def test_a_lease_that_ends_early_late_or_not_for_good_is_named(
    says: str, history: list[Operation]
) -> None:
    assert says in only_problem(lease.check(history, LATE))


def test_clocks_that_drift_make_the_bounds_wider() -> None:
    early, late = [grant(), look(90, False)], [grant(), look(130, True)]
    assert_valid(lease.check(early, LATE, drift=0.1))
    assert_valid(lease.check(late, LATE, drift=0.1))


@given(st.lists(st.integers(1, 90), max_size=6), st.floats(0, 1), st.integers(0, LATE))
def test_a_lease_that_is_kept_as_it_was_granted_is_never_accused(
    pauses: list[int], share: float, late: int
) -> None:
    history, now = [grant()], 5
    end = 5 * share + TTL
    for pause in pauses:
        if now + pause + 5 < end:
            now += pause
            history.append(renew(now))
            end = now + 5 * share + TTL
            now += 5
    history += [look(at, at + 1 < end + late) for at in range(now + 1, now + 200, 7)]
    assert_valid(lease.check(history, LATE))


def campaign(process: int, token: int, candidate: str) -> Operation:
    return operation(process, 0, 1, "campaign", candidate, {"token": token})


def observe(process: int, *seen: tuple[int | None, str | None]) -> Operation:
    told: list[Any] = [list(each) for each in seen]
    return operation(process, 0, 9, "observe", None, told)


VACANT = (None, None)


def test_observers_that_see_all_leaders_of_their_time_are_valid() -> None:
    assert_valid(
        election.check(
            [
                campaign(1, 1, "a"),
                campaign(2, 2, "b"),
                campaign(1, 3, "a"),
                observe(8, (1, "a"), VACANT, (2, "b"), (3, "a"), VACANT),
                observe(9, VACANT, (2, "b"), (3, "a"), (3, "a")),
            ]
        )
    )


@pytest.mark.parametrize(
    ("says", "history"),
    [
        ("token 1 belongs to b", [campaign(1, 1, "a"), campaign(2, 1, "b")]),
        ("token 1 belongs to b", [campaign(1, 1, "a"), observe(8, (1, "b"))]),
        (
            "saw the leader of token 1 after the one of token 2",
            [campaign(1, 1, "a"), observe(8, (2, "b"), (1, "a"))],
        ),
        (
            "not that one",
            [campaign(2, 2, "b"), observe(8, (1, "a"), (3, "a"))],
        ),
        ("two vacancies", [campaign(1, 1, "a"), observe(8, (1, "a"), VACANT, VACANT)]),
    ],
)
def test_an_election_that_lies_is_named(says: str, history: list[Operation]) -> None:
    assert says in only_problem(election.check(history))


def test_leases_nobody_looked_at_and_elections_nobody_won_prove_nothing() -> None:
    assert lease.check([grant()], LATE).validity is Validity.UNKNOWN
    assert election.check([observe(8)]).validity is Validity.UNKNOWN

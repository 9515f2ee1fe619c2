"""Leases that end too early or too late and elections with two leaders of a token are found."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepsen_lite.checkers import election, lease
from jepsen_lite.checkers.lease import ClusterTime
from jepsen_lite.history import Kind, Operation
from jepsen_lite.verdicts import Finding, Validity
from jepsen_lite.workloads.leases import DRIFT, ELECTION_NS
from raftkv.config import Settings
from tests.jepsen_lite.checkers.histories import INFO, OK, assert_valid, only_problem, operation

TTL = 100
LATE = 20
ELECTION = 15


def grant(began: int = 0, ended: int = 5) -> Operation:
    return operation(1, began, ended, "grant", {"ttl_ns": TTL})


def written(*spans: tuple[int, int]) -> list[Operation]:
    """Writes all the time in these spans, and none outside of them."""
    return [operation(9, at, at + 1, "write") for span in spans for at in range(*span, 2)]


def judged(
    history: list[Operation], *spans: tuple[int, int], late: int = LATE, drift: float = 0.0
) -> Finding:
    time = ClusterTime(written(*spans or ((0, 1_000),)), ELECTION)
    return lease.check(history, time, late, drift)


def renew(began: int, kind: Kind = OK) -> Operation:
    return operation(1, began, began + 5, "renew", kind=kind)


def look(began: int, lives: bool) -> Operation:
    return operation(2, began, began + 2, "look", None, lives)


@pytest.mark.parametrize(
    "history",
    [
        [grant(), look(90, True), look(98, False)],
        [grant(), look(127, True), look(130, False)],
        [grant(), renew(50), look(148, False)],
        [grant(), renew(50), look(175, True)],
        [grant(), operation(1, 10, 11, "revoke", kind=INFO), look(20, False)],
        [grant(), renew(50, INFO), look(110, False)],
        [grant(), renew(50, INFO), look(900, True)],
    ],
)
def test_a_lease_that_lives_as_long_as_it_should_is_valid(history: list[Operation]) -> None:
    assert_valid(judged(history))


@pytest.mark.parametrize(
    ("expected", "history"),
    [
        ("too early: process 1's grant", [grant(), look(50, False)]),
        ("too early: process 1's renew", [grant(), renew(50), look(120, False)]),
        ("after it had to be gone", [grant(), look(130, True)]),
        ("after it had to be gone", [grant(), renew(50), look(180, True)]),
        ("saw the lease again", [grant(), look(100, False), look(105, True)]),
    ],
)
def test_a_lease_that_ends_early_late_or_not_for_good_is_named(
    expected: str, history: list[Operation]
) -> None:
    assert expected in only_problem(judged(history))


def test_a_lease_outlives_an_outage_by_as_much_as_it_had_left() -> None:
    late, outage = [grant(), look(930, True)], ((0, 51), (900, 1_000))
    assert_valid(judged(late, *outage))
    assert "after it had to be gone" in only_problem(judged(late))
    too_late = [grant(), look(980, True)]
    assert "after it had to be gone" in only_problem(judged(too_late, *outage))


def test_a_lease_that_starts_again_at_each_leader_change_is_named() -> None:
    leaders = ((0, 81), (200, 281))
    assert "after it had to be gone" in only_problem(judged([grant(), look(270, True)], *leaders))


def test_time_without_writes_proves_no_cluster_time() -> None:
    assert_valid(judged([grant(), look(900, True)], (0, 20)))
    rare = [operation(9, at, at + 1, "write") for at in range(0, 900, ELECTION)]
    assert_valid(lease.check([grant(), look(900, True)], ClusterTime(rare, ELECTION), 0))


def test_a_write_concurrent_with_a_look_proves_no_cluster_time() -> None:
    writes = [*written((0, 80)), operation(9, 80, 85, "write"), operation(8, 86, 200, "write")]
    time = ClusterTime(writes, ELECTION)
    assert time.passed_ns(0, 85) == time.passed_ns(0, 80.5) == 77
    assert time.passed_ns(0, 86) == 79
    assert time.passed_ns(0, 1_000) == 79


def test_what_is_taken_for_less_than_an_election_is_less() -> None:
    config = Settings()
    election_ns = config.tick_ms * config.election_ticks_min * 1_000_000
    assert election_ns * (1 - DRIFT) >= ELECTION_NS


def test_clocks_that_drift_make_the_bounds_wider() -> None:
    early, late = [grant(), look(90, False)], [grant(), look(135, True)]
    assert_valid(judged(early, drift=0.1))
    assert_valid(judged(late, drift=0.1))


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
    assert_valid(judged(history))


@given(
    terms=st.lists(st.tuples(st.integers(5, 60), st.integers(ELECTION, 40)), max_size=12),
    writes=st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 5), st.floats(0, 1)), min_size=1, max_size=30
    ),
    pace=st.integers(1, 5),
)
def test_a_lease_that_ends_by_cluster_time_is_never_accused(
    terms: list[tuple[int, int]], writes: list[tuple[int, int, float]], pace: int
) -> None:
    """Each term is served for a while, then no node leads; only stamped time outlives a term."""
    led, now = [], 0
    for served, silent in terms:
        led.append((now, now + served))
        now += served + silent
    led.append((now, now + 5_000))
    deadline: float | None = None
    clock, history, acknowledged, now = 0.0, [], [], 0
    for begin, end in led:
        now, started = max(now, begin), clock
        for wait, long, share in writes:
            stamped = now + wait + share * long
            if now + wait + long >= end:
                break
            clock = started + stamped - begin
            done = operation(9, now + wait, now + wait + long, "write")
            if deadline is None:
                deadline = clock + TTL
                done = grant(now + wait, now + wait + long)
                history.append(done)
            acknowledged.append(done)
            now += wait + long
            if len(acknowledged) % pace == 0:
                history.append(look(now + 1, clock < deadline))
    if any(each.invocation.function == "look" for each in history):
        time = ClusterTime(acknowledged, ELECTION)
        late = [each for each in lease.check(history, time, 0).problems if "had to be" in each.text]
        assert not late


def campaign(process: int, token: int, candidate: str) -> Operation:
    return operation(process, 0, 1, "campaign", candidate, {"token": token})


def observe(process: int, *seen: tuple[int | None, str | None]) -> Operation:
    returned: list[Any] = [list(each) for each in seen]
    return operation(process, 0, 9, "observe", None, returned)


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
    ("expected", "history"),
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
def test_each_broken_election_is_named(expected: str, history: list[Operation]) -> None:
    assert expected in only_problem(election.check(history))


def test_leases_without_looks_and_elections_without_leaders_are_unknown() -> None:
    assert judged([grant()]).validity is Validity.UNKNOWN
    assert election.check([observe(8)]).validity is Validity.UNKNOWN

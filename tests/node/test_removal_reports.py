"""Others' word that this node was removed: enough if all that answer say so, for long enough."""

from __future__ import annotations

from raftkv.node.removal import RemovalReports

PATIENCE = 5
OTHERS = frozenset({2, 3})


def ticks(reports: RemovalReports, connected: set[int], times: int = PATIENCE) -> frozenset[int]:
    said: frozenset[int] = frozenset()
    for _ in range(times):
        said = reports.tick(OTHERS, connected)
    return said


def test_without_a_claim_nothing_is_decided() -> None:
    reports = RemovalReports(PATIENCE)
    assert ticks(reports, set()) == frozenset()
    assert reports.reporters(OTHERS) == frozenset()


def test_one_that_lies_decides_nothing_while_another_admits_this_node() -> None:
    reports = RemovalReports(PATIENCE)
    reports.reported(2)
    assert ticks(reports, {3}, 100) == frozenset()
    assert reports.reporters(OTHERS) == {2}


def test_all_that_answer_decide_it_once_they_have_said_so_for_long_enough() -> None:
    reports = RemovalReports(PATIENCE)
    reports.reported(2)
    assert ticks(reports, set(), PATIENCE - 1) == frozenset()
    assert ticks(reports, set(), 1) == {2}
    reports.reported(3)
    assert ticks(reports, set()) == {2, 3}


def test_the_time_begins_anew_when_one_admits_this_node_in_between() -> None:
    reports = RemovalReports(PATIENCE)
    reports.reported(2)
    ticks(reports, set(), PATIENCE - 1)
    ticks(reports, {3}, 1)
    assert ticks(reports, set(), PATIENCE - 1) == frozenset()
    assert ticks(reports, set(), 1) == {2}


def test_a_claim_is_withdrawn_by_admitting_this_node() -> None:
    reports = RemovalReports(PATIENCE)
    reports.reported(2)
    reports.admitted(2)
    assert reports.reporters(OTHERS) == frozenset()
    assert ticks(reports, set()) == frozenset()


def test_who_claims_over_one_link_and_admits_over_another_claims() -> None:
    reports = RemovalReports(PATIENCE)
    reports.reported(2)
    assert ticks(reports, {2}) == {2}


def test_the_word_of_one_that_is_no_other_member_counts_for_nothing() -> None:
    reports = RemovalReports(PATIENCE)
    reports.reported(9)
    assert reports.reporters(OTHERS) == frozenset()
    assert ticks(reports, set(), 100) == frozenset()

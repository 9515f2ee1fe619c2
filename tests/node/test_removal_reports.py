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


def test_without_a_report_nothing_is_conclusive() -> None:
    reports = RemovalReports(PATIENCE)
    assert ticks(reports, set()) == frozenset()
    assert reports.reporters(OTHERS) == frozenset()


def test_a_false_report_is_not_conclusive_while_another_peer_admits_this_node() -> None:
    reports = RemovalReports(PATIENCE)
    reports.reported(2)
    assert ticks(reports, {3}, 100) == frozenset()
    assert reports.reporters(OTHERS) == {2}


def test_unanimous_reports_are_conclusive_after_enough_ticks() -> None:
    reports = RemovalReports(PATIENCE)
    reports.reported(2)
    assert ticks(reports, set(), PATIENCE - 1) == frozenset()
    assert ticks(reports, set(), 1) == {2}
    reports.reported(3)
    assert ticks(reports, set()) == {2, 3}


def test_the_ticks_begin_anew_when_a_peer_admits_this_node() -> None:
    reports = RemovalReports(PATIENCE)
    reports.reported(2)
    ticks(reports, set(), PATIENCE - 1)
    ticks(reports, {3}, 1)
    assert ticks(reports, set(), PATIENCE - 1) == frozenset()
    assert ticks(reports, set(), 1) == {2}


def test_a_report_ends_when_the_peer_admits_this_node() -> None:
    reports = RemovalReports(PATIENCE)
    reports.reported(2)
    reports.admitted(2)
    assert reports.reporters(OTHERS) == frozenset()
    assert ticks(reports, set()) == frozenset()


def test_a_report_over_one_link_stands_although_another_link_is_up() -> None:
    reports = RemovalReports(PATIENCE)
    reports.reported(2)
    assert ticks(reports, {2}) == {2}


def test_reports_of_nodes_that_are_no_other_members_do_not_count() -> None:
    reports = RemovalReports(PATIENCE)
    reports.reported(9)
    assert reports.reporters(OTHERS) == frozenset()
    assert ticks(reports, set(), 100) == frozenset()

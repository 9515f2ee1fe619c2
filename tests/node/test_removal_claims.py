"""Others' word that this node was removed: enough if all that answer say so, for long enough."""

from __future__ import annotations

from raftkv.node.removal import RemovalClaims

PATIENCE = 5
OTHERS = frozenset({2, 3})


def ticks(claims: RemovalClaims, connected: set[int], times: int = PATIENCE) -> frozenset[int]:
    said: frozenset[int] = frozenset()
    for _ in range(times):
        said = claims.tick(OTHERS, connected)
    return said


def test_without_a_claim_nothing_is_decided() -> None:
    claims = RemovalClaims(PATIENCE)
    assert ticks(claims, set()) == frozenset()
    assert claims.claimed_by(OTHERS) == frozenset()


def test_one_that_lies_decides_nothing_while_another_admits_this_node() -> None:
    claims = RemovalClaims(PATIENCE)
    claims.claimed(2)
    assert ticks(claims, {3}, 100) == frozenset()
    assert claims.claimed_by(OTHERS) == {2}


def test_all_that_answer_decide_it_once_they_have_said_so_for_long_enough() -> None:
    claims = RemovalClaims(PATIENCE)
    claims.claimed(2)
    assert ticks(claims, set(), PATIENCE - 1) == frozenset()
    assert ticks(claims, set(), 1) == {2}
    claims.claimed(3)
    assert ticks(claims, set()) == {2, 3}


def test_the_time_begins_anew_when_one_admits_this_node_in_between() -> None:
    claims = RemovalClaims(PATIENCE)
    claims.claimed(2)
    ticks(claims, set(), PATIENCE - 1)
    ticks(claims, {3}, 1)
    assert ticks(claims, set(), PATIENCE - 1) == frozenset()
    assert ticks(claims, set(), 1) == {2}


def test_a_claim_is_withdrawn_by_admitting_this_node() -> None:
    claims = RemovalClaims(PATIENCE)
    claims.claimed(2)
    claims.withdrawn(2)
    assert claims.claimed_by(OTHERS) == frozenset()
    assert ticks(claims, set()) == frozenset()


def test_who_claims_over_one_link_and_admits_over_another_claims() -> None:
    claims = RemovalClaims(PATIENCE)
    claims.claimed(2)
    assert ticks(claims, {2}) == {2}


def test_the_word_of_one_that_is_no_other_member_counts_for_nothing() -> None:
    claims = RemovalClaims(PATIENCE)
    claims.claimed(9)
    assert claims.claimed_by(OTHERS) == frozenset()
    assert ticks(claims, set(), 100) == frozenset()

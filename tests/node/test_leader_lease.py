"""The arithmetic of a leader's lease: 10 ticks of 50 ms, less 2, less 10 %, are 360 ms."""

import pytest

from raftkv.node.clocks import LeaderLease
from raftkv.raft.ready import RaftConfig

LENGTH_S = 0.36


@pytest.fixture
def lease() -> LeaderLease:
    made = LeaderLease(RaftConfig(election_ticks_min=10), tick_s=0.05)
    made.begin(term=3, now_s=100.0)
    return made


def test_a_lease_ends_less_than_an_election_timeout_after_its_heartbeat_was_sent(
    lease: LeaderLease,
) -> None:
    lease.confirm(101.0)
    assert lease.holds(3, 101.0 + LENGTH_S - 0.001)
    assert not lease.holds(3, 101.0 + LENGTH_S + 0.001)


def test_nothing_confirmed_is_no_lease(lease: LeaderLease) -> None:
    assert not lease.holds(3, 100.0)
    lease.confirm(None)
    assert not lease.holds(3, 100.0)


def test_a_round_before_the_term_began_confirms_no_lease(lease: LeaderLease) -> None:
    lease.confirm(100.0)
    assert not lease.holds(3, 100.001)


def test_a_lease_belongs_to_one_term(lease: LeaderLease) -> None:
    lease.confirm(101.0)
    assert not lease.holds(4, 101.0)
    lease.begin(term=0, now_s=101.1)
    assert not lease.holds(3, 101.1)
    lease.confirm(101.2)
    assert not lease.holds(0, 101.2)


def test_an_older_confirmation_does_not_shorten_a_lease(lease: LeaderLease) -> None:
    lease.confirm(101.0)
    lease.confirm(100.5)
    assert lease.holds(3, 101.0 + LENGTH_S - 0.001)


def test_a_lease_is_due_when_half_of_it_is_over(lease: LeaderLease) -> None:
    lease.confirm(101.0)
    assert not lease.is_due(101.0 + LENGTH_S / 2 - 0.001)
    assert lease.is_due(101.0 + LENGTH_S / 2 + 0.001)


def test_with_election_timeouts_of_two_ticks_there_is_no_lease() -> None:
    lease = LeaderLease(RaftConfig(election_ticks_min=2), tick_s=0.05)
    lease.begin(term=1, now_s=0.0)
    lease.confirm(1.0)
    assert not lease.holds(1, 1.0)

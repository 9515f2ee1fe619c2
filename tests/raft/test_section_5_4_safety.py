"""Raft section 5.4: what makes a leader's log the truth."""

from __future__ import annotations

import pytest

from raftkv.errors import InvariantViolation
from raftkv.raft.breach import ProtocolBreach
from raftkv.raft.entry import Entry, EntryKind
from raftkv.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    RequestVote,
    RequestVoteReply,
)
from tests.raft.cluster import Cluster

ELECTION_RESTRICTION = [
    # the voter's log, the candidate's, granted
    ([1, 1], [1, 1], True),
    ([1, 1], [1, 1, 1], True),
    ([1, 1, 1], [1, 1], False),
    ([1, 1, 1], [1, 2], True),
    ([1, 2], [1, 1, 1, 1], False),
    ([], [], True),
    ([1], [], False),
]


@pytest.mark.parametrize("pre_vote", [False, True])
@pytest.mark.parametrize(("voter", "candidate", "granted"), ELECTION_RESTRICTION)
def test_a_vote_goes_only_to_a_log_as_complete_where_the_term_decides_before_the_length(
    voter, candidate, granted, pre_vote
) -> None:
    cluster = Cluster(3)
    cluster.write_log(2, voter, current_term=4)
    last = (len(candidate), candidate[-1] if candidate else 0)
    cluster.step(RequestVote(1, 2, 5, *last, pre_vote=pre_vote))
    cluster.settle(hold=lambda m: True)
    (reply,) = cluster.sent(RequestVoteReply)
    assert reply.granted is granted
    assert cluster[2].current_term == (4 if pre_vote else 5)


def test_a_node_that_missed_commits_is_not_elected() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.isolate(3)
    cluster.propose(1, b"x")
    cluster.settle()
    cluster.heal()
    cluster.crash(1)
    cluster.forget_leader(2)
    for _ in range(3):
        cluster.campaign(3)
        cluster.settle()
        assert not cluster[3].leads
    cluster.elect(2)
    cluster.beat(2)
    assert cluster.commands(3) == [b"x"]


def figure_8_c() -> Cluster:
    """S1 leads in term 4, and its entry of term 2 is on a majority: S1, S2, S3."""
    cluster = Cluster(5)
    cluster.write_log(1, [1, 2], current_term=3)
    cluster.write_log(2, [1, 2], current_term=3)
    cluster.write_log(3, [1], current_term=3)
    cluster.write_log(4, [1], current_term=3)
    cluster.write_log(5, [1, 3], current_term=3)
    cluster.crash(5)
    cluster.forget_leader(2, 3, 4)
    cluster.campaign(1)
    cluster.settle(hold=lambda m: isinstance(m, AppendEntries | AppendEntriesReply))
    assert cluster[1].leads
    assert cluster[1].current_term == 4
    cluster.drop(lambda m: True)
    old = Entry(2, 2, EntryKind.COMMANDS, b"2")
    cluster.step(AppendEntries(1, 2, 4, 1, 1, 0, (old,)))
    cluster.step(AppendEntries(1, 3, 4, 1, 1, 0, (old,)))
    cluster.settle(hold=lambda m: isinstance(m, AppendEntries | Heartbeat))
    cluster.drop(lambda m: True)
    assert [cluster[1].progress[n].match_index for n in (2, 3)] == [2, 2]
    return cluster


def test_figure_8_an_entry_of_an_older_term_is_not_committed_by_counting() -> None:
    cluster = figure_8_c()
    assert cluster[1].commit_index == 0


def test_figure_8_d_an_entry_of_an_older_term_on_a_majority_can_be_overwritten() -> None:
    cluster = figure_8_c()
    cluster.crash(1)
    cluster.restart(5)
    cluster.campaign(5)  # finds out about the term
    cluster.settle()
    cluster.elect(5)
    assert [cluster.terms(n)[:2] for n in (2, 3, 4, 5)] == [[1, 3]] * 4


def test_figure_8_e_an_entry_below_one_of_the_leaders_term_on_a_majority_is_not_overwritten() -> (
    None
):
    cluster = figure_8_c()
    for _ in range(2):
        cluster.tick(1, 2)
        cluster.settle()
    assert cluster[1].commit_index == 3
    cluster.crash(1)
    cluster.restart(5)
    cluster.forget_leader(2, 3, 4)
    for _ in range(3):
        cluster.campaign(5)
        cluster.settle()
        assert not cluster[5].leads


def test_a_new_leader_commits_its_predecessors_entries_with_its_own_first_one() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.settle(hold=lambda m: isinstance(m, AppendEntriesReply))
    cluster.drop(lambda m: True)
    assert cluster[1].commit_index == 1
    cluster.crash(1)
    cluster.elect(2)
    assert cluster.commands(2) == [b"x"]


def test_two_leaders_in_one_term_are_a_breach_for_the_node_that_notices() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    with pytest.raises(ProtocolBreach, match="nodes 1 and 3 both lead one term") as breach:
        cluster[2].step(Heartbeat(3, 2, 1, 0, 1))
    assert breach.value.sender == 3
    with pytest.raises(ProtocolBreach, match="nodes 1 and 3 both lead one term"):
        cluster[1].step(Heartbeat(3, 1, 1, 0, 1))


def test_a_leader_that_would_cut_off_a_committed_entry_stops_the_node() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x", b"y")
    cluster.settle()
    log = cluster[2].log
    with pytest.raises(InvariantViolation, match="a committed entry is never cut off"):
        log.merge((Entry(5, 2, EntryKind.NOOP),), cluster[2].commit_index)


def test_a_follower_that_acknowledges_more_than_its_leader_has_is_a_breach() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    with pytest.raises(ProtocolBreach, match="node 2 has committed what its leader"):
        cluster[1].step(AppendEntriesReply(2, 1, 1, success=True, match_index=9))


def test_an_applied_index_that_goes_back_or_past_commit_stops_the_node() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for wrong in (0, 2):
        with pytest.raises(InvariantViolation, match="applied never goes back"):
            cluster[1].applied(wrong)

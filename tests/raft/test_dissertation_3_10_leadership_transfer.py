"""Dissertation 3.10: leadership transfer."""

from __future__ import annotations

from raftkv.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from tests.raft.cluster import Cluster


def test_leadership_moves_at_once_to_a_voter_that_is_up_to_date() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    assert cluster[1].transfer_leadership(3)
    cluster.settle()
    assert cluster.leader == 3
    assert cluster[1].leader_id == 3
    assert cluster[3].committed_in_term


def test_the_target_first_gets_all_entries() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.settle(hold=lambda m: isinstance(m, AppendEntries) and m.recipient == 3)
    assert cluster[1].transfer_leadership(3)
    cluster.pump(1)
    assert not cluster.sent(TimeoutNow)
    cluster.settle()
    assert cluster.leader == 3
    assert cluster.commands(3) == [b"x"]


def test_a_leader_takes_no_proposals_during_a_leadership_transfer() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.settle(hold=lambda m: isinstance(m, AppendEntriesReply))
    cluster[1].transfer_leadership(3)
    assert cluster.propose(1, b"y") is None


def test_a_transfer_that_does_not_happen_is_given_up_after_an_election_timeout() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.crash(3)
    cluster[1].transfer_leadership(3)
    for _ in range(cluster.config.election_ticks_min):
        cluster.tick(1)
        cluster.settle()
    assert cluster[1].leads
    cluster.propose(1, b"x")
    cluster.settle()
    assert cluster.commands(2) == [b"x"]


def test_only_another_voter_can_be_the_target_and_only_of_a_leader() -> None:
    cluster = Cluster(3, learners=[4])
    cluster.elect(1)
    assert not cluster[1].transfer_leadership(1)
    assert not cluster[1].transfer_leadership(4)
    assert not cluster[1].transfer_leadership(9)
    assert not cluster[2].transfer_leadership(3)


def test_voters_do_not_ignore_an_election_of_a_leadership_transfer() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.isolate(1)  # so 2 has to vote although it has just had a message of the leader
    cluster.step(TimeoutNow(1, 3, 1))
    cluster.pump(3)
    cluster.finish_write(3)
    cluster.pump(3)
    (vote,) = cluster.sent(RequestVote, to=2)
    assert vote.leadership_transfer
    cluster.settle()
    assert cluster[3].leads


def test_a_late_timeout_now_is_ignored() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster[1].transfer_leadership(3)
    cluster.pump(1)
    (order,) = [e for e in cluster.network if isinstance(e.message, TimeoutNow)]
    cluster.settle()
    assert cluster.leader == 3
    cluster.elect(2)
    term = cluster[2].current_term
    cluster.step(order.message)
    cluster.settle()
    assert cluster[2].leads
    assert cluster[2].current_term == term


def test_a_learner_ignores_a_timeout_now() -> None:
    cluster = Cluster(3, learners=[4])
    cluster.elect(1)
    cluster.step(TimeoutNow(1, 4, 1))
    cluster.settle()
    assert cluster.leader == 1
    assert not cluster.sent(RequestVoteReply)

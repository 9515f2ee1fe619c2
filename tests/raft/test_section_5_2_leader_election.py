"""Raft section 5.2: leader election."""

from __future__ import annotations

from random import Random

from raftkv.raft.messages import Heartbeat, RequestVote, RequestVoteReply
from raftkv.raft.ready import RaftConfig, RaftRole
from tests.raft.cluster import Cluster


def real_vote(message) -> bool:
    return isinstance(message, RequestVote) and not message.pre_vote


def test_a_follower_without_a_leader_is_elected_by_a_majority() -> None:
    cluster = Cluster(5)
    cluster.crash(4, 5)
    cluster.elect(1)
    assert cluster.leader == 1
    assert [cluster[n].leader_id for n in (1, 2, 3)] == [1, 1, 1]


def test_without_a_majority_no_leader_is_elected() -> None:
    cluster = Cluster(5)
    cluster.crash(3, 4, 5)
    for _ in range(5):
        cluster.campaign(1)
        cluster.settle()
    assert cluster.leader == 0
    assert cluster[1].current_term == 0


def test_a_node_alone_leads_once_its_vote_is_on_disk() -> None:
    cluster = Cluster(1)
    cluster.campaign(1)
    cluster.pump(1)
    assert cluster[1].role is RaftRole.CANDIDATE
    cluster.finish_write(1)
    assert cluster[1].leads
    cluster.settle()
    cluster.propose(1, b"x")
    cluster.settle()
    assert cluster.commands(1) == [b"x"]


def test_heartbeats_keep_followers_from_campaigning() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for _ in range(100):
        for node_id in (1, 2, 3):
            cluster.tick(node_id)
        cluster.settle()
    assert cluster[1].leads
    assert cluster[1].current_term == 1


def test_a_node_votes_once_in_a_term() -> None:
    cluster = Cluster(3)
    cluster.step(RequestVote(1, 2, 1, 0, 0))
    cluster.step(RequestVote(3, 2, 1, 0, 0))
    cluster.step(RequestVote(1, 2, 1, 0, 0))
    cluster.pump(2)
    cluster.finish_write(2)
    cluster.pump(2)
    granted = {m.recipient: m.granted for m in cluster.sent(RequestVoteReply)}
    assert granted == {1: True, 3: False}


def test_a_node_remembers_its_vote_over_a_restart() -> None:
    cluster = Cluster(3)
    cluster.step(RequestVote(1, 2, 1, 0, 0))
    cluster.pump(2)
    cluster.finish_write(2)
    cluster.crash(2)
    cluster.restart(2)
    cluster.step(RequestVote(3, 2, 1, 0, 0))
    cluster.pump(2)
    assert [m.granted for m in cluster.sent(RequestVoteReply, to=3)] == [False]


def test_a_split_vote_is_decided_by_the_next_time_out() -> None:
    cluster = Cluster(4)
    for node_id in (1, 2):
        cluster.campaign(node_id)
    cluster.settle(hold=real_vote)
    for candidate, voter in ((1, 3), (2, 4)):
        (vote,) = [
            e
            for e in cluster.network
            if (e.message.sender, e.message.recipient) == (candidate, voter)
        ]
        cluster.deliver(vote)
    cluster.settle()
    assert cluster.leader == 0
    cluster.forget_leader(2, 3, 4)
    cluster.campaign(1)
    cluster.settle()
    assert cluster.leader == 1
    assert cluster[1].current_term == 2


def test_a_candidate_follows_the_leader_that_was_elected_in_its_term() -> None:
    cluster = Cluster(3)
    cluster.campaign(1)
    cluster.settle(hold=real_vote)
    cluster.step(Heartbeat(2, 1, cluster[1].current_term, 0, 1))
    assert (cluster[1].role, cluster[1].leader_id) == (RaftRole.FOLLOWER, 2)


def test_a_candidate_that_was_refused_by_a_majority_gives_up_at_once() -> None:
    cluster = Cluster(3)
    cluster.campaign(1)
    cluster.settle(hold=real_vote)
    term = cluster[1].current_term
    for voter in (2, 3):
        cluster.step(RequestVoteReply(voter, 1, term, granted=False))
    assert cluster[1].role is RaftRole.FOLLOWER
    assert cluster[1].voted_for == 1


def test_a_vote_that_arrives_twice_counts_once() -> None:
    cluster = Cluster(5)
    cluster.campaign(1)
    cluster.settle(hold=real_vote)
    for _ in range(3):
        cluster.step(RequestVoteReply(2, 1, cluster[1].current_term, granted=True))
    assert cluster[1].role is RaftRole.CANDIDATE


def test_election_timeouts_are_drawn_anew_from_the_whole_range() -> None:
    config = RaftConfig(election_ticks_min=10, election_ticks_max=20)
    cluster = Cluster(3, config=config, rng_for=lambda node_id, life: Random(node_id))
    cluster.crash(2, 3)
    waits = []
    for _ in range(200):
        ticks = 0
        cluster[1].step(Heartbeat(2, 1, 0, 0, 0))
        while cluster[1].role is not RaftRole.PRE_CANDIDATE:
            cluster.tick(1)
            ticks += 1
        waits.append(ticks)
    assert set(waits) == set(range(10, 21))


def test_only_voters_are_asked_for_votes_and_ask_for_them() -> None:
    cluster = Cluster(3, learners=[4])
    cluster.tick(4, 100)
    assert cluster[4].role is RaftRole.FOLLOWER
    cluster.campaign(1)
    cluster.pump(1)
    assert {m.recipient for m in cluster.sent(RequestVote)} == {2, 3}

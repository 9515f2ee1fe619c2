"""Dissertation 9.6: pre-vote."""

from __future__ import annotations

from raftkv.raft.messages import RequestVote, RequestVoteReply
from raftkv.raft.ready import RaftRole
from tests.raft.cluster import Cluster


def test_a_partitioned_node_does_not_disturb_when_it_comes_back() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.isolate(3)
    for _ in range(20):
        cluster.campaign(3)
        cluster.settle()
    assert cluster[3].current_term == 1
    cluster.heal()
    for _ in range(3):
        cluster.campaign(3)
        cluster.settle()
        cluster.beat(1)
    assert cluster[1].leads
    assert cluster[1].current_term == 1
    assert cluster[3].leader_id == 1


def test_a_pre_vote_changes_no_term_and_no_vote() -> None:
    cluster = Cluster(3)
    cluster.step(RequestVote(1, 2, 1, 0, 0, pre_vote=True))
    cluster.step(RequestVote(3, 2, 1, 0, 0, pre_vote=True))
    cluster.pump(2)
    assert [m.granted for m in cluster.sent(RequestVoteReply)] == [True, True]
    assert (cluster[2].current_term, cluster[2].voted_for) == (0, 0)
    assert cluster.nodes[2].writing is None


def test_a_pre_vote_does_not_put_off_the_voters_own_campaign() -> None:
    cluster = Cluster(3)
    cluster.tick(2, 11)
    cluster.step(RequestVote(1, 2, 1, 0, 0, pre_vote=True))
    cluster.tick(2)
    assert cluster[2].role is RaftRole.PRE_CANDIDATE


def test_only_a_majority_of_pre_votes_starts_an_election() -> None:
    cluster = Cluster(5)
    cluster.campaign(1)
    cluster.step(RequestVoteReply(2, 1, 1, granted=True, pre_vote=True))
    assert cluster[1].role is RaftRole.PRE_CANDIDATE
    cluster.step(RequestVoteReply(3, 1, 1, granted=True, pre_vote=True))
    assert cluster[1].role is RaftRole.CANDIDATE
    assert cluster[1].current_term == 1


def test_pre_votes_are_not_counted_as_votes() -> None:
    cluster = Cluster(3)
    cluster.campaign(1)
    cluster.settle(hold=lambda m: isinstance(m, RequestVote) and not m.pre_vote)
    assert cluster[1].role is RaftRole.CANDIDATE
    cluster.step(RequestVoteReply(2, 1, 1, granted=True, pre_vote=True))
    assert cluster[1].role is RaftRole.CANDIDATE


def test_a_candidate_that_lags_in_terms_learns_the_present_one_from_the_refusal() -> None:
    cluster = Cluster(3)
    cluster.write_log(2, [1, 4], current_term=6)
    cluster.crash(3)
    cluster.campaign(1)
    cluster.settle()
    assert cluster[1].current_term == 6
    assert cluster[1].role is RaftRole.FOLLOWER


def test_a_pre_vote_for_a_term_that_has_begun_already_is_refused() -> None:
    cluster = Cluster(3)
    cluster.write_log(2, [], current_term=4)
    cluster.step(RequestVote(1, 2, 4, 9, 4, pre_vote=True))
    cluster.pump(2)
    assert [(m.granted, m.term) for m in cluster.sent(RequestVoteReply)] == [(False, 4)]

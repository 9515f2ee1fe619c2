"""Dissertation 6.4.1: what a leader that reads on a lease relies on its followers for."""

from __future__ import annotations

import pytest

from raftkv.raft.messages import HeartbeatReply, RequestVote, RequestVoteReply, TimeoutNow
from raftkv.raft.ready import RaftConfig
from tests.raft.cluster import Cluster

LEASED = RaftConfig(leader_lease=True)
TICKS = LEASED.election_ticks_min


def leased_cluster() -> Cluster:
    cluster = Cluster(3, config=LEASED)
    cluster.elect(1)
    return cluster


def granted(cluster: Cluster) -> list[int]:
    votes = [m for m in cluster.sent(RequestVoteReply) if isinstance(m, RequestVoteReply)]
    return [vote.sender for vote in votes if vote.granted]


@pytest.mark.parametrize("pre_vote", [False, True])
def test_a_restarted_follower_grants_no_vote_until_a_lease_would_be_over(
    pre_vote: bool,
) -> None:
    cluster = leased_cluster()
    cluster.crash(2)
    cluster.restart(2)
    cluster.tick(2, TICKS - 1)
    cluster.step(RequestVote(3, 2, 9, 9, 9, pre_vote=pre_vote))
    cluster.pump(2)
    assert cluster[2].current_term == 1
    assert not cluster.sent(RequestVoteReply)
    cluster.tick(2)
    cluster.step(RequestVote(3, 2, 9, 9, 9, pre_vote=pre_vote))
    cluster.settle(hold=lambda m: isinstance(m, RequestVoteReply))
    assert granted(cluster) == [2]


def test_without_the_lease_a_follower_that_was_restarted_votes_at_once() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.crash(2)
    cluster.restart(2)
    cluster.step(RequestVote(3, 2, 9, 9, 9))
    cluster.settle(hold=lambda m: isinstance(m, RequestVoteReply))
    assert granted(cluster) == [2]


def test_a_refusal_that_arrives_late_does_not_free_a_follower_to_vote() -> None:
    """3 stood for term 2 while 2 was isolated. Then 2 has its leader again, and answers: a lease
    begins. 3's refusal of an older question of 2 carries term 2, and so does 3's own request.
    """
    cluster = leased_cluster()
    cluster.tick(2, TICKS)
    cluster.isolate(3)
    cluster.beat(1)
    cluster.step(RequestVoteReply(3, 2, 2, granted=False, pre_vote=True))
    assert (cluster[2].current_term, cluster[2].leader_id) == (2, 0)
    cluster.step(RequestVote(3, 2, 2, 9, 9))
    cluster.settle(hold=lambda m: isinstance(m, RequestVoteReply))
    assert granted(cluster) == []
    assert cluster[1].may_lease
    cluster.tick(2, TICKS)
    cluster.step(RequestVote(3, 2, 2, 9, 9))
    cluster.settle(hold=lambda m: isinstance(m, RequestVoteReply))
    assert granted(cluster) == [2]


def test_a_leader_has_no_lease_after_a_leadership_transfer_began_in_its_term() -> None:
    """The TimeoutNow may arrive when the transfer has long been given up."""
    cluster = leased_cluster()
    assert cluster[1].may_lease
    cluster[1].transfer_leadership(2)
    cluster.settle(hold=lambda m: isinstance(m, TimeoutNow))
    for _ in range(TICKS):
        cluster.tick(1)
        cluster.settle(hold=lambda m: isinstance(m, TimeoutNow))
    assert cluster[1].leads
    assert not cluster[1].transferee
    assert not cluster[1].may_lease
    cluster.settle()
    assert cluster.leader == 2
    assert cluster[2].may_lease


def test_a_leadership_transfer_ignores_stickiness() -> None:
    cluster = leased_cluster()
    cluster[1].transfer_leadership(2)
    cluster.settle()
    assert cluster.leader == 2


def test_a_node_that_does_not_lead_has_no_lease() -> None:
    cluster = leased_cluster()
    assert not cluster[2].may_lease
    cluster.step(HeartbeatReply(3, 1, 9, 0))
    assert not cluster[1].may_lease
    unleased = Cluster(3)
    unleased.elect(1)
    assert not unleased[1].may_lease


def test_a_cluster_elects_again_after_its_leader_has_died() -> None:
    cluster = leased_cluster()
    cluster.crash(1)
    for _ in range(6 * LEASED.election_ticks_max):
        for node in cluster.up:
            cluster.tick(node.node_id)
        cluster.settle()
    assert cluster.leader in (2, 3)

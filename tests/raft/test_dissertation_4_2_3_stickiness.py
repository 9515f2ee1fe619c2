"""Dissertation 4.2.3: a node with an active leader ignores requests for votes."""

from __future__ import annotations

import pytest

from raftkv.raft.messages import RequestVote, RequestVoteReply
from tests.raft.cluster import Cluster


@pytest.mark.parametrize("pre_vote", [False, True])
@pytest.mark.parametrize("node_id", [1, 2], ids=["the leader", "a follower"])
def test_a_vote_request_is_ignored_while_the_leader_is_active(node_id, pre_vote) -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.step(RequestVote(3, node_id, 9, 9, 9, pre_vote=pre_vote))
    cluster.pump(node_id)
    assert cluster[node_id].current_term == 1
    assert not cluster.sent(RequestVoteReply)


def test_after_the_shortest_election_timeout_without_a_heartbeat_a_vote_is_granted() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.tick(2, cluster.config.election_ticks_min - 1)
    cluster.step(RequestVote(3, 2, 9, 9, 9))
    assert cluster[2].current_term == 1
    cluster.tick(2)
    cluster.step(RequestVote(3, 2, 9, 9, 9))
    assert cluster[2].current_term == 9
    assert cluster[2].voted_for == 3


def test_a_removed_node_without_its_removal_entry_disturbs_no_election() -> None:
    cluster = Cluster(4)
    cluster.elect(1)
    cluster.isolate(4)
    cluster[1].propose_membership(
        type(cluster[1].membership)(frozenset({1, 2, 3}), addresses=cluster[1].membership.addresses)
    )
    cluster.settle()
    cluster.heal()
    cluster.crash(4)
    cluster.restart(4)
    term = cluster[1].current_term
    cluster.cut_links = {(leader, 4) for leader in (1, 2, 3)}
    for _ in range(100):
        for node in cluster.up:
            cluster.tick(node.node_id)
        cluster.settle()
    assert cluster.leader == 1
    assert cluster[1].current_term == term

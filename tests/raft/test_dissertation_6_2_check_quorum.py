"""Dissertation 6.2: a leader that is cut off from a majority steps down."""

from __future__ import annotations

from raftkv.raft.ready import RaftRole
from tests.raft.cluster import Cluster


def run(cluster: Cluster, ticks: int) -> None:
    for _ in range(ticks):
        for node in cluster.up:
            cluster.tick(node.node_id)
        cluster.settle()


def test_a_leader_without_a_majority_steps_down_within_two_election_timeouts() -> None:
    cluster = Cluster(5)
    cluster.elect(1)
    cluster.crash(3, 4, 5)
    run(cluster, 2 * cluster.config.election_ticks_min)
    assert not cluster[1].leads
    assert cluster[1].leader_id == 0


def test_a_leader_with_a_majority_stays() -> None:
    cluster = Cluster(5)
    cluster.elect(1)
    cluster.crash(4, 5)
    run(cluster, 10 * cluster.config.election_ticks_max)
    assert cluster[1].leads


def test_a_leader_that_receives_no_replies_steps_down() -> None:
    """Otherwise its heartbeats would keep the others from electing one that works."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.cut_links = {(2, 1), (3, 1)}
    run(cluster, 6 * cluster.config.election_ticks_max)
    assert cluster[1].role is not RaftRole.LEADER
    assert cluster.leader in (2, 3)


def test_a_candidate_keeps_its_vote_when_it_steps_down() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.crash(2, 3)
    run(cluster, 2 * cluster.config.election_ticks_min)
    assert (cluster[1].current_term, cluster[1].voted_for) == (1, 1)


def test_repeated_transfers_do_not_keep_a_leader_that_has_lost_its_majority() -> None:
    """An operator who tries again and again must not postpone the check each time."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.crash(2, 3)
    for _ in range(2 * cluster.config.election_ticks_min):
        cluster[1].transfer_leadership(2)
        cluster.tick(1)
        cluster.settle()
    assert not cluster[1].leads

"""When a peer gets the commit index: at once if a client waits, else with the next message."""

from __future__ import annotations

from raftkv.raft.messages import Heartbeat
from tests.raft.cluster import Cluster


def idle_cluster() -> Cluster:
    """A leader, and no client that waits at any node."""
    cluster = Cluster(3)
    cluster.elect(1)
    for node in cluster.nodes.values():
        node.clients_everywhere = False
    return cluster


def test_an_entry_without_a_waiting_client_costs_a_peer_one_message() -> None:
    cluster = idle_cluster()
    before = len(cluster.sent(Heartbeat))
    cluster.propose(1, b"x")
    cluster.settle()
    assert cluster.commands(1) == [b"x"]
    assert len(cluster.sent(Heartbeat)) == before


def test_the_next_entries_carry_the_commit_index() -> None:
    cluster = idle_cluster()
    cluster.propose(1, b"x")
    cluster.settle()
    assert cluster.commands(2) == []
    cluster.propose(1, b"y")
    cluster.settle()
    assert cluster.commands(2) == [b"x"]


def test_without_entries_the_next_heartbeat_carries_the_commit_index() -> None:
    cluster = idle_cluster()
    cluster.propose(1, b"x")
    cluster.settle()
    cluster.beat(1)
    assert cluster.commands(2) == cluster.commands(3) == [b"x"]


def test_only_a_peer_with_a_waiting_client_gets_the_commit_index_at_once() -> None:
    cluster = idle_cluster()
    cluster.propose(1, b"x")
    cluster[1].want_commit(3)
    cluster.settle()
    assert cluster.commands(3) == [b"x"]
    assert cluster.commands(2) == []


def test_a_follower_with_a_confirmed_read_gets_the_commit_index_at_once() -> None:
    cluster = idle_cluster()
    cluster.propose(1, b"x")
    cluster.settle()
    cluster.read(2)
    cluster.settle()
    assert cluster.commands(2) == [b"x"]

"""Once the faults end, the cluster works again: the other half of what Raft promises."""

from __future__ import annotations

from tests.raft.cluster import Cluster


def let_time_pass(cluster: Cluster, election_timeouts: int) -> None:
    for _ in range(election_timeouts * cluster.config.election_ticks_max):
        for node in cluster.up:
            cluster.tick(node.node_id)
        cluster.settle()


def heal_everything(cluster: Cluster) -> None:
    """No more faults, and time enough for every node to finish its work."""
    cluster.heal()
    for node in cluster.nodes.values():
        node.slow_disk = False
        if not node.up:
            cluster.restart(node.node_id)
    let_time_pass(cluster, 30)


def check_liveness(cluster: Cluster) -> None:
    """After healing there is one leader, changes are finished, writes and reads work everywhere."""
    heal_everything(cluster)
    assert cluster.leader, "no leader after healing"
    leader = cluster[cluster.leader]
    assert leader.committed_in_term
    assert leader.membership_committed, "a change of membership is stuck"
    assert not leader.membership.joint, "a joint membership is stuck"
    last = cluster.propose(leader.node_id, b"after the storm")
    assert last is not None, "the leader takes no proposal"
    members = sorted(leader.membership.members)
    reads = [cluster.read(member) for member in members]
    let_time_pass(cluster, 3)
    assert cluster.leader == leader.node_id, "the leader changed without a fault"
    for member in members:
        assert cluster[member].last_applied == last, f"{member} did not catch up"
        assert cluster[member].leader_id == leader.node_id
    assert all(context in cluster.reads for context in reads), "a read got no answer"

"""Dissertation 6.4: linearizable reads without the log."""

from __future__ import annotations

from raftkv.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    ReadIndex,
    ReadIndexReply,
)
from tests.raft.cluster import Cluster


def test_a_leader_reads_at_the_commit_index_that_it_had_when_it_was_asked() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.settle()
    context = cluster.read(1)
    cluster.settle()
    assert cluster.reads == {context: 2}


def test_a_deposed_leader_confirms_no_read() -> None:
    """Consul #54, Xraft #40."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.isolate(1)
    cluster.elect(2)
    cluster.propose(2, b"x")
    cluster.settle()
    assert cluster[1].leads
    context = cluster.read(1)
    cluster.settle()
    cluster.heal()
    cluster.beat(1)
    assert not cluster[1].leads
    assert context not in cluster.reads


def test_heartbeats_answered_before_the_read_do_not_confirm_it() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.tick(1, 2)
    cluster.settle(hold=lambda m: isinstance(m, HeartbeatReply))
    old = cluster.sent(HeartbeatReply)
    assert old
    context = cluster.read(1)
    cluster.settle(hold=lambda m: isinstance(m, Heartbeat))
    assert context not in cluster.reads
    cluster.settle()
    assert context in cluster.reads


def test_no_read_is_confirmed_before_the_leader_has_committed_in_its_term() -> None:
    """redisraft #22: it does not know yet how far its predecessors got."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.settle(hold=lambda m: isinstance(m, Heartbeat))  # 2 does not have the commit index
    cluster.drop(lambda m: True)
    assert (cluster[1].commit_index, cluster[2].commit_index) == (2, 1)
    cluster.crash(1)
    cluster.forget_leader(3)
    cluster.campaign(2)
    cluster.settle(hold=lambda m: isinstance(m, AppendEntries))
    assert cluster[2].leads
    context = cluster.read(2)
    cluster.tick(2, 2)
    cluster.settle(hold=lambda m: isinstance(m, AppendEntries))
    assert context not in cluster.reads
    cluster.settle()
    assert cluster.reads[context] >= 2


def test_a_read_needs_a_majority() -> None:
    cluster = Cluster(5)
    cluster.elect(1)
    cluster.crash(3, 4, 5)
    context = cluster.read(1)
    cluster.settle()
    assert context not in cluster.reads
    cluster.restart(3)
    cluster.beat(1)
    assert context in cluster.reads


def test_the_replies_of_learners_confirm_nothing() -> None:
    cluster = Cluster(3, learners=[4, 5])
    cluster.elect(1)
    cluster.crash(2, 3)
    context = cluster.read(1)
    cluster.beat(1)
    assert context not in cluster.reads


def test_a_leader_alone_reads_at_once() -> None:
    cluster = Cluster(1)
    cluster.elect(1)
    context = cluster.read(1)
    cluster.pump(1)
    assert context in cluster.reads


def test_many_reads_share_one_round() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    contexts = [cluster.read(1) for _ in range(100)]
    cluster.pump(1)
    assert len(cluster.sent(Heartbeat)) == 2
    cluster.settle()
    assert set(contexts) <= cluster.reads.keys()


def test_a_later_round_confirms_the_earlier_ones() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    first = cluster.read(1)
    cluster.pump(1)
    cluster.drop(lambda m: isinstance(m, Heartbeat))
    second = cluster.read(1)
    cluster.settle()
    assert {first, second} <= cluster.reads.keys()


def test_lost_replies_are_made_good_by_the_next_heartbeat() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    context = cluster.read(1)
    cluster.settle(hold=lambda m: isinstance(m, HeartbeatReply))
    assert cluster.drop(lambda m: isinstance(m, HeartbeatReply)) == 2
    assert context not in cluster.reads
    cluster.beat(1)
    assert context in cluster.reads


def test_a_follower_asks_its_leader() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.settle(hold=lambda m: isinstance(m, Heartbeat) or m.recipient == 3)
    cluster.drop(lambda m: True)
    context = cluster.read(3)
    cluster.settle()
    assert cluster.reads[context] == 2


def test_a_lost_read_index_reply_is_requested_again_under_the_same_context() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    context = cluster.read(3)
    cluster.settle(hold=lambda m: isinstance(m, ReadIndexReply))
    cluster.drop(lambda m: True)
    assert cluster[3].read_index(context)
    cluster.settle()
    assert context in cluster.reads


def test_a_follower_of_a_deposed_leader_gets_no_answer() -> None:
    cluster = Cluster(5)
    cluster.elect(1)
    cluster.isolate(1, 2)
    cluster.elect(3)
    cluster.propose(3, b"x")
    cluster.settle()
    context = cluster.read(2)
    cluster.settle()
    cluster.beat(1)
    assert context not in cluster.reads


def test_a_node_without_a_leader_fails_with_no_leader() -> None:
    cluster = Cluster(3)
    assert not cluster[1].read_index(1)
    cluster.elect(1)
    assert cluster[2].read_index(2)


def test_a_read_index_request_that_reaches_no_leader_is_not_answered() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.step(ReadIndex(2, 3, 1, 7))
    cluster.settle()
    assert not cluster.sent(ReadIndexReply)


def test_a_read_in_a_joint_membership_needs_both_majorities() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for added in (4, 5):
        cluster.add_node(added)
    joint_target = type(cluster[1].membership)(
        frozenset({1, 4, 5}), addresses=cluster[1].membership.addresses
    )
    cluster.crash(4, 5)
    cluster[1].propose_membership(joint_target, force=True)
    cluster.settle(hold=lambda m: isinstance(m, AppendEntriesReply))
    context = cluster.read(1)
    cluster.beat(1)
    assert context not in cluster.reads
    cluster.restart(4, 5)
    cluster.beat(1)
    assert context in cluster.reads

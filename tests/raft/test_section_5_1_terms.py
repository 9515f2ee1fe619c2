"""Raft section 5.1: terms are the logical clock."""

from __future__ import annotations

import pytest

from raftkv.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    RequestVote,
    RequestVoteReply,
)
from raftkv.raft.ready import RaftRole
from tests.raft.cluster import Cluster


def leader(cluster: Cluster) -> None:
    cluster.elect(1)


def candidate(cluster: Cluster) -> None:
    cluster.campaign(1)
    cluster.settle(hold=lambda m: isinstance(m, RequestVote) and not m.pre_vote)
    assert cluster[1].role is RaftRole.CANDIDATE


def pre_candidate(cluster: Cluster) -> None:
    cluster.campaign(1)
    assert cluster[1].role is RaftRole.PRE_CANDIDATE


@pytest.mark.parametrize("become", [leader, candidate, pre_candidate])
def test_a_node_adopts_a_higher_term(become) -> None:
    cluster = Cluster(3)
    become(cluster)
    cluster.step(HeartbeatReply(2, 1, term=7, read_round=0))
    assert (cluster[1].role, cluster[1].current_term) == (RaftRole.FOLLOWER, 7)
    assert cluster[1].voted_for == 0
    assert cluster[1].leader_id == 0


@pytest.mark.parametrize(
    "stale",
    [
        AppendEntries(2, 1, 1, 0, 0, 0),
        Heartbeat(2, 1, 1, 0, 1),
        RequestVote(2, 1, 1, 9, 9),
    ],
)
def test_a_message_of_an_old_term_is_answered_with_the_present_one(stale) -> None:
    cluster = Cluster(3)
    cluster.write_log(1, [1], current_term=5)
    cluster.step(stale)
    cluster.pump(1)
    (answer,) = [envelope.message for envelope in cluster.network]
    assert answer.term == 5
    assert not getattr(answer, "granted", False)
    assert cluster[1].log.last_index == 1


def test_a_reply_of_an_old_term_changes_nothing() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.elect(2)
    cluster.isolate(2)
    cluster.propose(2, b"x")
    last = cluster[2].log.last_index
    cluster.step(AppendEntriesReply(1, 2, term=1, success=True, match_index=last))
    assert cluster[2].commit_index < last


def test_a_vote_of_an_old_term_does_not_count() -> None:
    cluster = Cluster(3)
    candidate(cluster)
    cluster.step(RequestVoteReply(2, 1, term=0, granted=True))
    assert cluster[1].role is RaftRole.CANDIDATE


def test_a_deposed_leader_learns_the_new_term_from_the_reply_to_its_heartbeat() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.isolate(1)
    cluster.elect(2)
    cluster.heal()
    cluster.tick(1, 2)
    cluster.settle()
    assert not cluster[1].leads
    assert cluster[1].current_term == cluster[2].current_term


def test_term_and_vote_outlive_a_restart() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.crash(2)
    cluster.restart(2)
    assert (cluster[2].current_term, cluster[2].voted_for) == (1, 1)

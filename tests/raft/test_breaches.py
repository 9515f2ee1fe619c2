"""What a peer can't say if all nodes kept what they promised is found out, and changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftkv.raft.breach import ProtocolBreach
from raftkv.raft.entry import Entry, EntryKind, SnapshotPoint, encode_version
from raftkv.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from raftkv.raft.progress import Replication
from raftkv.raft.raft import Raft
from raftkv.raft.ready import RaftRole
from raftkv.raft.running_hash import UNKNOWN
from tests.raft.cluster import Cluster, members

TWO_HISTORIES = "different histories"


def led() -> Cluster:
    """Node 1 leads term 1; x and y, the entries 2 and 3, are committed everywhere."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x", b"y")
    cluster.settle()
    cluster.beat(1)
    return cluster


def hash_at(cluster: Cluster, node_id: int, index: int) -> int:
    found = cluster[node_id].log.hash(index)
    assert found is not None
    return found


def facts(raft: Raft) -> tuple[object, ...]:
    """All that a message could have changed."""
    log = raft.log
    return (
        (raft.current_term, raft.voted_for, raft.role, raft.leader_id, raft.commit_index),
        (log.last_index, log.last_term, log.hash(log.last_index), raft.membership),
        {peer: (known.match_index, known.next_index) for peer, known in raft.progress.items()},
        (raft.installing, raft._election_elapsed, raft._leaderless_ticks),
    )


# ---- each of them, and that it changes nothing ---------------------------------------

OTHER = 0xBAD
X = Entry(1, 2, EntryKind.COMMANDS, b"x")
POINT = SnapshotPoint(2, 1, members([1, 2, 3]), OTHER)

TO_FOLLOWER: dict[str, Message] = {
    "a second leader of the term": Heartbeat(3, 2, 1, 0, 1),
    "entries of a second leader": AppendEntries(3, 2, 1, 3, 1, 0),
    "a snapshot of a second leader": InstallSnapshot(3, 2, 1, POINT),
    "a commit beyond the log": Heartbeat(1, 2, 1, 4, 1),
    "a commit beyond the log in a new term": Heartbeat(3, 2, 2, 4, 1),
    "another hash at the end": AppendEntries(1, 2, 1, 3, 1, 0, (), OTHER),
    "another hash in a new term": AppendEntries(3, 2, 2, 3, 1, 0, (), OTHER),
    "another hash below the commit index": AppendEntries(1, 2, 1, 2, 1, 0, (), OTHER),
    "another term at the commit index": AppendEntries(3, 2, 3, 3, 2, 0),
    "another term below the commit index": AppendEntries(3, 2, 3, 2, 2, 0),
    "another entry below the commit index": AppendEntries(
        1, 2, 1, 1, 1, 0, (replace(X, payload=b"z"),)
    ),
    "an entry of another kind": AppendEntries(1, 2, 1, 1, 1, 0, (replace(X, kind=EntryKind.NOOP),)),
    "a snapshot with another hash": InstallSnapshot(1, 2, 1, POINT),
}

TO_LEADER: dict[str, Message] = {
    "a second leader": Heartbeat(3, 1, 1, 0, 1),
    "more than the leader has": AppendEntriesReply(2, 1, 1, success=True, match_index=4),
    "a round that was not begun": HeartbeatReply(2, 1, 1, read_round=99),
}


@pytest.mark.parametrize("message", TO_FOLLOWER.values(), ids=TO_FOLLOWER.keys())
def test_a_follower_does_nothing_about_a_breach(message: Message) -> None:
    cluster = led()
    before = facts(cluster[2])
    with pytest.raises(ProtocolBreach) as breach:
        cluster[2].step(message)
    assert breach.value.sender == message.sender
    assert facts(cluster[2]) == before
    cluster.pump(2)
    assert not cluster.network


def test_a_candidate_stays_one_after_a_breach() -> None:
    cluster = led()
    cluster.campaign(2)
    before = facts(cluster[2])
    with pytest.raises(ProtocolBreach):
        cluster[2].step(Heartbeat(1, 2, 1, 4, 1))
    assert facts(cluster[2]) == before
    assert cluster[2].role is RaftRole.PRE_CANDIDATE


@pytest.mark.parametrize("message", TO_LEADER.values(), ids=TO_LEADER.keys())
def test_a_leader_does_nothing_about_a_breach(message: Message) -> None:
    cluster = led()
    before = facts(cluster[1])
    with pytest.raises(ProtocolBreach) as breach:
        cluster[1].step(message)
    assert breach.value.sender == message.sender
    assert facts(cluster[1]) == before


def test_a_breach_names_both_sides() -> None:
    cluster = led()
    with pytest.raises(ProtocolBreach) as breach:
        cluster[2].step(AppendEntries(1, 2, 1, 3, 1, 0, (), OTHER))
    here = f"at node 2 term 1 hash {hash_at(cluster, 2, 3):016x}"
    assert str(breach.value) == (
        f"the logs of nodes 2 and 1 are different histories (index 3, {here},"
        f" at node 1 term 1 hash {OTHER:016x})"
    )


# ---- two histories, and how nodes that belong to them find out ------------------------


def test_a_probe_shows_two_entries_with_one_index_and_term() -> None:
    cluster = Cluster(3, lost_disks=True)
    cluster.write_log(1, [1, 1], current_term=1)
    cluster.write_log(2, [1, 1], current_term=1)
    cluster.write_log(3, [1, 1], current_term=1, lost=[1])
    with pytest.raises(ProtocolBreach, match=TWO_HISTORIES):
        cluster.elect(1)


def test_a_probe_shows_a_committed_entry_of_another_term() -> None:
    """The trace: node 3 has committed entries that the others lost with their disks. It refused the
    leader's probe at its commit index, agreed below it, and the two went round for ever.
    """
    cluster = Cluster(3, lost_disks=True)
    cluster.write_log(1, [1, 1, 3, 3], current_term=3)
    cluster.write_log(2, [1, 1, 3, 3], current_term=3)
    cluster.write_log(3, [1, 1, 2], current_term=3, commit_index=3)
    with pytest.raises(ProtocolBreach, match=TWO_HISTORIES):
        cluster.elect(1)


def test_an_entry_that_arrives_again_with_another_payload_is_a_breach() -> None:
    cluster = Cluster(3)
    append = AppendEntries(1, 2, 1, 0, 0, 0, (Entry(1, 1, EntryKind.COMMANDS, b"x"),))
    cluster.step(append)
    cluster.settle(hold=lambda m: True)
    cluster.drop(lambda m: True)
    longer = (
        Entry(1, 1, EntryKind.COMMANDS, b"z"),
        Entry(1, 2, EntryKind.COMMANDS, b"y"),
    )
    with pytest.raises(ProtocolBreach, match=TWO_HISTORIES):
        cluster.step(replace(append, entries=longer, leader_commit=2))
    assert (cluster[2].log.last_index, cluster[2].commit_index) == (1, 0)


def test_entries_that_are_replaced_are_no_breach() -> None:
    cluster = Cluster(3)
    cluster.write_log(2, [1, 1, 1], current_term=1)
    new = (Entry(1, 1, EntryKind.COMMANDS, b"1"), Entry(2, 2, EntryKind.COMMANDS, b"2"))
    cluster.step(AppendEntries(1, 2, 2, 0, 0, 0, new))
    assert cluster.terms(2) == [1, 2]


def test_a_follower_that_has_compacted_answers_with_its_commit_index_and_hash() -> None:
    cluster = led()
    cluster.nodes[2].compact(3)
    cluster.step(AppendEntries(1, 2, 1, 1, 1, 0, (), OTHER))
    cluster.pump(2)
    (reply,) = cluster.sent(AppendEntriesReply)
    assert (reply.success, reply.match_index) == (True, 3)
    assert reply.match_hash == hash_at(cluster, 2, 3) == hash_at(cluster, 1, 3)


def test_an_acknowledgement_of_another_history_does_not_count_and_causes_a_probe_there() -> None:
    cluster = led()
    cluster.isolate(2)
    cluster.propose(1, b"z")
    cluster.settle(hold=lambda m: m.recipient == 3)
    cluster.drop(lambda m: True)
    commit, match = cluster[1].commit_index, cluster[1].progress[3].match_index
    reply = AppendEntriesReply(3, 1, 1, success=True, match_index=4, match_hash=OTHER)
    cluster.step(reply)
    cluster.pump(1)
    assert cluster[1].commit_index == commit
    assert cluster[1].progress[3].match_index == match
    assert cluster[1].progress[3].replication is Replication.PROBE
    (probe,) = cluster.sent(AppendEntries, to=3)
    assert (probe.prev_log_index, probe.prev_log_hash) == (4, hash_at(cluster, 1, 4))


def test_a_follower_of_another_history_that_has_compacted_raises_the_breach_itself() -> None:
    cluster = Cluster(3, lost_disks=True)
    for node in (1, 2):
        cluster.write_log(node, [1, 1, 1, 3], current_term=3)
    cluster.write_log(3, [1, 1, 1], current_term=3, commit_index=3, lost=[2])
    cluster.pump(3)
    cluster.nodes[3].compact(3)
    cluster.isolate(3)
    cluster.elect(1)
    cluster.heal()
    cluster.step(AppendEntries(1, 3, 4, 1, 1, 0, (), hash_at(cluster, 1, 1)))
    cluster.settle(hold=lambda m: m.recipient == 3)
    cluster.drop(lambda m: isinstance(m, Heartbeat))
    assert cluster[1].progress[3].match_index == 0
    with pytest.raises(ProtocolBreach, match=TWO_HISTORIES) as breach:
        cluster.beat(1)
    assert breach.value.facts["index"] == 3


def test_an_acknowledgement_of_what_the_leader_has_compacted_ends_in_a_snapshot() -> None:
    """No index is left at which both have a hash: the follower's state is replaced as a whole."""
    cluster = led()
    cluster.isolate(3)
    for command in (b"a", b"b"):
        cluster.propose(1, command)
        cluster.settle()
    cluster.nodes[1].compact(5)
    for _ in range(cluster.config.election_ticks_min):
        cluster.tick(1)
        cluster.settle()
    cluster.heal()
    cluster.drop(lambda m: True)
    cluster.step(AppendEntriesReply(3, 1, 1, success=True, match_index=3, match_hash=OTHER))
    for _ in range(3):
        cluster.beat(1)
    assert cluster[3].log.compacted_index == 5
    assert hash_at(cluster, 3, 5) == hash_at(cluster, 1, 5)


@pytest.mark.parametrize("pre_vote", [False, True])
@pytest.mark.parametrize(("candidate", "granted"), [(0, True), (OTHER, False), (None, True)])
def test_a_vote_is_refused_to_a_log_of_another_history(
    candidate: int | None, granted: bool, pre_vote: bool
) -> None:
    cluster = Cluster(3)
    cluster.write_log(2, [1, 1], current_term=4)
    last_hash = hash_at(cluster, 2, 2) if candidate is None else candidate
    cluster.step(RequestVote(1, 2, 5, 2, 1, pre_vote=pre_vote, last_log_hash=last_hash))
    cluster.settle(hold=lambda m: True)
    (reply,) = cluster.sent(RequestVoteReply)
    assert reply.granted is granted


def test_a_vote_request_has_the_hash_of_the_candidates_log() -> None:
    cluster = Cluster(3)
    cluster.write_log(1, [1, 1], current_term=1)
    cluster.campaign(1)
    cluster.pump(1)
    assert {m.last_log_hash for m in cluster.sent(RequestVote)} == {hash_at(cluster, 1, 2)}


# ---- who may say it -------------------------------------------------------------------


@pytest.mark.parametrize("sender", [3, 9])
def test_only_the_leader_gives_leadership_away(sender: int) -> None:
    cluster = led()
    cluster.step(TimeoutNow(sender, 2, 1))
    assert (cluster[2].role, cluster[2].current_term) == (RaftRole.FOLLOWER, 1)
    cluster.step(TimeoutNow(1, 2, 1))
    assert (cluster[2].role, cluster[2].current_term) == (RaftRole.CANDIDATE, 2)


def test_a_timeout_now_to_a_node_that_has_no_leader_is_ignored() -> None:
    cluster = Cluster(3)
    cluster.write_log(2, [1], current_term=1)
    cluster.step(TimeoutNow(3, 2, 1))
    assert cluster[2].role is RaftRole.FOLLOWER


def test_a_node_that_stands_by_stands_for_no_election_and_still_votes() -> None:
    cluster = Cluster(3)
    cluster[1].passive = True
    cluster.tick(1, 3 * cluster.config.election_ticks_max)
    cluster.settle()
    assert cluster[1].role is RaftRole.FOLLOWER
    cluster.crash(3)
    cluster.elect(2)
    assert cluster[1].voted_for == 2


# ---- the cluster version --------------------------------------------------------------


def test_a_cluster_without_hashes_has_them_once_its_version_is_raised() -> None:
    cluster = Cluster(3, founded=UNKNOWN)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.settle()
    assert hash_at(cluster, 1, 2) == UNKNOWN
    cluster[1].propose_version(1)
    cluster.settle()
    assert cluster[1].log.entries(3, 4, 1)[0] == Entry(1, 3, EntryKind.VERSION, encode_version(1))
    assert hash_at(cluster, 2, 3) == hash_at(cluster, 1, 3) != UNKNOWN
    with pytest.raises(ProtocolBreach, match=TWO_HISTORIES):
        cluster[2].step(AppendEntries(1, 2, 1, 3, 1, 0, (), OTHER))


def test_only_a_leader_that_stays_raises_the_version() -> None:
    cluster = led()
    cluster[2].propose_version(1)
    cluster.propose(1, b"z")
    cluster[1].transfer_leadership(3)
    cluster[1].propose_version(1)
    last = cluster[1].log.last_index
    kinds = [entry.kind for entry in cluster[1].log.entries(1, last + 1, 1 << 20)]
    assert EntryKind.VERSION not in kinds
    assert cluster[2].log.last_index == 3

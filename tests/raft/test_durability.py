"""Nothing is promised before it is on disk, and nothing else waits for the disk."""

from __future__ import annotations

import pytest

from raftkv.errors import InvariantViolation
from raftkv.raft.entry import Entry, EntryKind
from raftkv.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    HeartbeatReply,
    RequestVote,
    RequestVoteReply,
)
from raftkv.raft.ready import RaftRole
from tests.raft.cluster import Cluster


def test_a_follower_acknowledges_only_what_is_on_its_disk() -> None:
    """etcd #14370."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.nodes[2].slow_disk = True
    cluster.propose(1, b"x")
    cluster.settle(hold=lambda m: isinstance(m, AppendEntriesReply))
    assert {m.sender for m in cluster.sent(AppendEntriesReply)} == {3}
    cluster.finish_write(2)
    cluster.pump(2)
    assert {m.sender for m in cluster.sent(AppendEntriesReply)} == {2, 3}


def test_entries_that_come_during_a_write_are_acknowledged_after_the_next_one() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.nodes[2].slow_disk = True
    for command in (b"a", b"b"):
        cluster.propose(1, command)
        cluster.settle(hold=lambda m: isinstance(m, AppendEntriesReply))
    cluster.drop(lambda m: True)
    cluster.finish_write(2)
    cluster.pump(2)
    assert [m.match_index for m in cluster.sent(AppendEntriesReply)] == [2]
    cluster.finish_write(2)
    cluster.pump(2)
    assert [m.match_index for m in cluster.sent(AppendEntriesReply)] == [2, 3]


def test_a_repeated_append_is_not_acknowledged_before_the_first_one_is_written() -> None:
    """It brings nothing to write, but what it repeats is still on its way to the disk."""
    cluster = Cluster(3)
    cluster.nodes[2].slow_disk = True
    append = AppendEntries(1, 2, 1, 0, 0, 0, (Entry(1, 1, EntryKind.COMMANDS, b"x"),))
    for _ in range(2):
        cluster.step(append)
        cluster.pump(2)
    assert not cluster.sent(AppendEntriesReply)
    cluster.finish_write(2)
    cluster.pump(2)
    assert {m.match_index for m in cluster.sent(AppendEntriesReply)} == {1}


def test_a_leader_sends_entries_while_it_writes_them() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.nodes[1].slow_disk = True
    cluster.propose(1, b"x")
    cluster.pump(1)
    assert cluster.nodes[1].writing is not None
    assert len(cluster.sent(AppendEntries)) == 2


def test_a_leader_does_not_count_what_it_has_not_written() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.crash(3)
    cluster.nodes[1].slow_disk = True
    cluster.propose(1, b"x")
    cluster.settle()
    assert cluster[1].progress[2].match_index == 2
    assert cluster[1].commit_index == 1
    cluster.finish_write(1)
    assert cluster[1].commit_index == 2


def test_a_leader_commits_on_the_disks_of_others_but_applies_from_its_own() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.nodes[1].slow_disk = True
    cluster.propose(1, b"x")
    cluster.settle()
    assert cluster[1].commit_index == 2
    assert cluster.commands(1) == []
    assert cluster.commands(2) == [b"x"]
    cluster.finish_write(1)
    cluster.settle()
    assert cluster.commands(1) == [b"x"]


def test_a_vote_leaves_after_it_is_written() -> None:
    """nodedb #161, PySyncObj: term and vote are on disk before the reply."""
    cluster = Cluster(3)
    cluster.step(RequestVote(1, 2, 1, 0, 0))
    cluster.pump(2)
    assert not cluster.sent(RequestVoteReply)
    cluster.finish_write(2)
    cluster.pump(2)
    assert [m.granted for m in cluster.sent(RequestVoteReply)] == [True]
    assert cluster.nodes[2].disk.hard_state.voted_for == 1


def test_a_vote_in_a_term_that_is_on_disk_already_is_written_too() -> None:
    cluster = Cluster(3)
    cluster.step(HeartbeatReply(3, 2, 5, read_round=0))
    cluster.pump(2)
    cluster.finish_write(2)
    assert cluster.nodes[2].disk.hard_state.current_term == 5
    cluster.step(RequestVote(1, 2, 5, 0, 0))
    cluster.pump(2)
    assert not cluster.sent(RequestVoteReply)
    cluster.finish_write(2)
    assert cluster.nodes[2].disk.hard_state.voted_for == 1


def test_a_truncated_tail_does_not_count_as_written() -> None:
    """Else the new leader would count its own next entries before they are on its disk."""
    cluster = Cluster(3)
    cluster.write_log(2, [1, 2, 2, 2], current_term=3)
    cluster.step(AppendEntries(1, 2, 3, 1, 1, 0, (Entry(1, 2, EntryKind.COMMANDS, b"1"),)))
    assert cluster[2].log.persisted_index == 1
    cluster.pump(2)
    cluster.finish_write(2)
    assert cluster[2].log.persisted_index == 2


def test_a_candidate_asks_for_votes_after_its_own_is_written() -> None:
    cluster = Cluster(3)
    cluster.campaign(1)
    cluster.nodes[1].slow_disk = True
    cluster.settle()
    assert cluster[1].role is RaftRole.CANDIDATE
    assert not cluster.sent(RequestVote)
    cluster.finish_write(1)
    cluster.pump(1)
    assert len(cluster.sent(RequestVote)) == 2


def test_a_crash_before_the_write_is_done_loses_only_what_was_not_acknowledged() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.nodes[2].slow_disk = True
    cluster.propose(1, b"x")
    cluster.settle(hold=lambda m: isinstance(m, AppendEntriesReply))
    cluster.crash(2)
    cluster.restart(2)
    assert cluster[2].log.last_index == 1


def test_a_tail_that_was_replaced_during_its_write_does_not_count_as_written() -> None:
    cluster = Cluster(3)
    old = tuple(Entry(1, index, EntryKind.COMMANDS, b"1") for index in (1, 2, 3))
    new = Entry(2, 2, EntryKind.COMMANDS, b"2")
    cluster.step(AppendEntries(1, 2, 1, 0, 0, 0, old))
    cluster.pump(2)
    cluster.step(AppendEntries(3, 2, 2, 1, 1, 0, (new,)))
    cluster.finish_write(2)
    assert cluster[2].log.persisted_index < 2
    cluster.pump(2)
    cluster.finish_write(2)
    assert cluster[2].log.persisted_index == 2
    assert [entry.term for entry in cluster.nodes[2].disk.entries] == [1, 2]


def test_only_one_write_is_under_way() -> None:
    cluster = Cluster(1)
    cluster.elect(1)
    cluster.propose(1, b"a")
    assert cluster[1].ready().persist is not None
    cluster.propose(1, b"b")
    assert cluster[1].ready().persist is None
    cluster[1].persisted()
    persist = cluster[1].ready().persist
    assert persist is not None
    assert [entry.payload for entry in persist.entries] == [b"b"]


def test_a_write_that_was_never_handed_over_is_not_reported() -> None:
    cluster = Cluster(1)
    with pytest.raises(InvariantViolation, match="only what was handed over"):
        cluster[1].persisted()


def test_a_commit_alone_costs_no_write() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    trace: list[str] = []
    cluster.trace = trace.append
    cluster.settle()
    assert len([line for line in trace if "writes" in line]) == 3
    cluster.beat(1)
    assert len([line for line in trace if "writes" in line]) == 3

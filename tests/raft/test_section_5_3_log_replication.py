"""Raft section 5.3: log replication."""

from __future__ import annotations

import pytest

from raftkv.raft.entry import Entry, EntryKind
from raftkv.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat
from tests.raft.cluster import Cluster


def command(term: int, index: int) -> Entry:
    return Entry(term, index, EntryKind.COMMANDS, b"%d" % term)


def answers(cluster: Cluster, node_id: int) -> list[AppendEntriesReply]:
    """What a node replies once everything is on its disk."""
    cluster.pump(node_id)
    if cluster.nodes[node_id].writing is not None:
        cluster.finish_write(node_id)
        cluster.pump(node_id)
    return [m for m in cluster.sent(AppendEntriesReply) if m.sender == node_id]


def test_a_command_is_applied_everywhere_once_a_majority_has_it() -> None:
    cluster = Cluster(5)
    cluster.elect(1)
    cluster.crash(4, 5)
    cluster.propose(1, b"x", b"y")
    cluster.settle()
    assert [cluster.commands(n) for n in (1, 2, 3)] == [[b"x", b"y"]] * 3
    cluster.restart(4, 5)
    cluster.beat(1)
    cluster.beat(1)
    assert cluster.commands(5) == [b"x", b"y"]


def test_without_a_majority_nothing_commits() -> None:
    cluster = Cluster(5)
    cluster.elect(1)
    cluster.crash(3, 4, 5)
    cluster.propose(1, b"x")
    cluster.settle()
    assert cluster.commands(1) == cluster.commands(2) == []


def test_only_the_leader_takes_proposals() -> None:
    cluster = Cluster(3)
    assert cluster.propose(1, b"x") is None
    cluster.elect(1)
    assert cluster.propose(2, b"x") is None
    assert cluster.propose(1, b"x") == 2


def refusals(trace: list[str]) -> list[str]:
    return [line for line in trace if "AppendEntriesReply" in line and "success" not in line]


FIGURE_7 = {
    "a: lacks the last entry": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b: lacks several": [1, 1, 1, 4],
    "c: has one too many": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d: has a term too many": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e: both": [1, 1, 1, 4, 4, 4, 4],
    "f: missed and made three terms": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


@pytest.mark.parametrize("terms", FIGURE_7.values(), ids=FIGURE_7.keys())
def test_figure_7_any_follower_is_brought_to_the_leaders_log(terms) -> None:
    log = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
    cluster = Cluster(3)
    cluster.write_log(1, log, current_term=7)
    cluster.write_log(2, log, current_term=7)
    cluster.write_log(3, terms, current_term=7)
    cluster.isolate(3)
    cluster.elect(1)
    cluster.heal()
    cluster.beat(1)
    cluster.beat(1)
    assert cluster.terms(3) == [*log, 8]
    assert cluster[3].commit_index == 11


def test_a_leader_skips_a_conflicting_term_at_a_time() -> None:
    cluster = Cluster(3)
    ours, theirs = [1] * 3 + [9], [1] * 3 + [2] * 40 + [3] * 40 + [5] * 40
    cluster.write_log(1, ours, current_term=9)
    cluster.write_log(2, ours, current_term=9)
    cluster.write_log(3, theirs, current_term=9)
    cluster.isolate(3)
    cluster.elect(1)
    cluster.heal()
    trace: list[str] = []
    cluster.trace = trace.append
    cluster.beat(1)
    cluster.beat(1)
    assert cluster.terms(3) == [*ours, 10]
    assert len(refusals(trace)) <= 3


def test_a_follower_skips_the_leaders_terms_as_well() -> None:
    cluster = Cluster(3)
    ours, theirs = [1] * 3 + [4] * 40 + [6] * 40 + [8] * 40, [1] * 3 + [2] * 100
    cluster.write_log(1, ours, current_term=9)
    cluster.write_log(2, ours, current_term=9)
    cluster.write_log(3, theirs, current_term=9)
    cluster.isolate(3)
    cluster.elect(1)
    cluster.heal()
    trace: list[str] = []
    cluster.trace = trace.append
    cluster.beat(1)
    cluster.beat(1)
    assert cluster.terms(3) == [*ours, 10]
    assert len(refusals(trace)) <= 2


def test_entries_after_a_gap_are_refused() -> None:
    cluster = Cluster(3)
    cluster.write_log(2, [1, 1], current_term=1)
    cluster.step(AppendEntries(1, 2, 1, 3, 1, 0, (command(1, 4),)))
    (reply,) = answers(cluster, 2)
    assert (reply.success, reply.match_index, reply.conflict_index) == (False, 3, 2)
    assert cluster[2].log.last_index == 2


def test_an_old_append_cuts_nothing_off() -> None:
    """Entries that are there already stay, and what follows them too: the message may be late."""
    cluster = Cluster(3)
    cluster.write_log(2, [1, 1, 1, 1], current_term=1)
    cluster.step(AppendEntries(1, 2, 1, 1, 1, 0, (command(1, 2),)))
    (reply,) = answers(cluster, 2)
    assert (reply.success, reply.match_index) == (True, 2)
    assert cluster.terms(2) == [1, 1, 1, 1]


def test_a_conflict_cuts_off_all_that_follows_it() -> None:
    cluster = Cluster(3)
    cluster.write_log(2, [1, 2, 2, 2], current_term=3)
    cluster.step(AppendEntries(1, 2, 3, 1, 1, 0, (command(3, 2),)))
    (reply,) = answers(cluster, 2)
    assert (reply.success, reply.match_index) == (True, 2)
    assert cluster.terms(2) == [1, 3]
    assert [entry.term for entry in cluster.nodes[2].disk.entries] == [1, 3]


def test_a_follower_commits_no_further_than_what_it_knows_to_agree() -> None:
    """Its log may go on with entries that the leader has never seen."""
    cluster = Cluster(3)
    cluster.write_log(2, [1, 1, 2, 2], current_term=3)
    cluster.invariants.committed.update({1: (1, 1), 2: (1, 1)})
    cluster.step(AppendEntries(1, 2, 3, 1, 1, 4, (command(1, 2),)))
    assert cluster[2].commit_index == 2


def test_a_heartbeat_commits_no_further_than_the_match_index() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.settle(hold=lambda m: isinstance(m, AppendEntries) and m.recipient == 3)
    assert cluster[1].commit_index == 2
    cluster.drop(lambda m: m.recipient == 3)
    cluster.tick(1, 2)
    cluster.pump(1)
    told = {m.recipient: m.leader_commit for m in cluster.sent(Heartbeat)}
    assert told == {2: 2, 3: 1}


def test_a_leader_sends_the_commit_index_as_soon_as_it_moves() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.settle()
    assert [cluster[n].last_applied for n in (1, 2, 3)] == [2, 2, 2]


def test_commit_and_apply_outlive_restarts_of_all_nodes() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.settle()
    cluster.crash(1, 2, 3)
    cluster.restart(1, 2, 3)
    cluster.elect(3)
    assert [cluster.commands(n) for n in (1, 2, 3)] == [[b"x"]] * 3


def test_a_restarted_node_applies_at_once_up_to_its_written_commit_index() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for command in (b"x", b"y"):
        cluster.propose(1, command)
        cluster.settle()
    cluster.crash(2)
    cluster.restart(2)
    cluster.pump(2)
    assert cluster.commands(2) == [b"x"]


def test_apply_takes_bounded_pieces() -> None:
    cluster = Cluster(1)
    cluster.elect(1)
    size = cluster.config.apply_bytes_max // 3
    cluster.propose(1, *[b"." * size] * 9)
    cluster.pump(1)
    cluster.finish_write(1)
    pieces = 0
    while cluster[1].last_applied < cluster[1].log.last_index:
        before = cluster[1].last_applied
        cluster.pump(1)
        assert cluster[1].last_applied - before <= 3
        pieces += 1
    assert pieces >= 4

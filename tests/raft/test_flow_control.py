"""Windows, probes, and repair of what the network lost (dissertation 10.2.1)."""

from __future__ import annotations

import pytest

from raftkv.raft.log import ENTRY_OVERHEAD_BYTES
from raftkv.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat
from raftkv.raft.progress import Replication
from raftkv.raft.ready import RaftConfig
from tests.raft.cluster import Cluster


def small(**limits: int) -> RaftConfig:
    return RaftConfig(append_bytes_max=1, **limits)


def test_entries_are_sent_without_waiting_for_the_answer_to_the_last_ones() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for command in (b"a", b"b", b"c"):
        cluster.propose(1, command)
        cluster.pump(1)
    assert [len(m.entries) for m in cluster.sent(AppendEntries, to=2)] == [1, 1, 1]


def test_proposals_between_two_rounds_share_one_message() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for command in (b"a", b"b", b"c"):
        cluster.propose(1, command)
    cluster.pump(1)
    assert [len(m.entries) for m in cluster.sent(AppendEntries, to=2)] == [3]


def test_no_more_messages_are_in_flight_than_the_window_allows() -> None:
    cluster = Cluster(3, config=small(in_flight_messages_max=4))
    cluster.elect(1)
    cluster.propose(1, *[b"x"] * 10)
    cluster.pump(1)
    assert len(cluster.sent(AppendEntries, to=2)) == 4
    cluster.settle()
    assert cluster.commands(2) == [b"x"] * 10


def test_no_more_bytes_are_in_flight_than_the_window_allows() -> None:
    entry_bytes = ENTRY_OVERHEAD_BYTES + 100
    cluster = Cluster(3, config=small(in_flight_bytes_max=3 * entry_bytes))
    cluster.elect(1)
    cluster.propose(1, *[b"." * 100] * 10)
    cluster.pump(1)
    assert len(cluster.sent(AppendEntries, to=2)) == 3
    cluster.settle()
    assert len(cluster.commands(2)) == 10


def test_a_message_has_bounded_bytes_but_at_least_one_entry() -> None:
    cluster = Cluster(3, config=RaftConfig(append_bytes_max=500))
    cluster.elect(1)
    cluster.propose(1, *[b"." * 100] * 4, b"." * 9999)
    cluster.pump(1)
    assert [len(m.entries) for m in cluster.sent(AppendEntries, to=2)] == [3, 1, 1]


def test_one_slow_follower_does_not_hold_up_the_others() -> None:
    cluster = Cluster(3, config=small(in_flight_messages_max=2))
    cluster.elect(1)
    for number in range(20):
        cluster.propose(1, b"%d" % number)
        cluster.settle(hold=lambda m: m.recipient == 3)
    assert len(cluster.commands(2)) == 20
    assert len(cluster.sent(AppendEntries, to=3)) == 2


def test_a_new_leader_probes_with_one_message_at_a_time() -> None:
    cluster = Cluster(3, config=small())
    cluster.write_log(3, [1] * 3, current_term=2)
    cluster.write_log(1, [1] * 3 + [2] * 4, current_term=2)
    cluster.write_log(2, [1] * 3 + [2] * 4, current_term=2)
    cluster.forget_leader(2, 3)
    cluster.campaign(1)
    cluster.settle(hold=lambda m: isinstance(m, AppendEntries))
    for _ in range(3):
        cluster.pump(1)
    assert len(cluster.sent(AppendEntries, to=3)) == 1
    assert cluster[1].progress[3].replication is Replication.PROBE
    cluster.settle()
    assert cluster.terms(3) == cluster.terms(1)
    assert cluster[1].progress[3].replication is Replication.REPLICATE


@pytest.mark.parametrize("lost", [AppendEntries, AppendEntriesReply])
def test_the_last_append_if_lost_is_repaired_by_the_next_heartbeat(lost) -> None:
    """Nothing comes after it that would show the gap."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.settle(hold=lambda m: isinstance(m, lost))
    assert cluster.drop(lambda m: isinstance(m, lost)) == 2
    assert cluster.commands(1) == []
    cluster.beat(1)
    assert [cluster.commands(n) for n in (1, 2, 3)] == [[b"x"]] * 3


def test_a_window_that_was_lost_as_a_whole_is_repaired_by_the_next_heartbeat() -> None:
    cluster = Cluster(3, config=small(in_flight_messages_max=2))
    cluster.elect(1)
    cluster.propose(1, *[b"x"] * 6)
    cluster.pump(1)
    cluster.drop(lambda m: True)
    cluster.beat(1)
    assert cluster.commands(3) == [b"x"] * 6


def test_a_lost_commit_index_is_sent_again_with_the_next_heartbeat() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.settle(hold=lambda m: isinstance(m, Heartbeat))
    cluster.drop(lambda m: isinstance(m, Heartbeat))
    assert cluster.commands(3) == []
    cluster.beat(1)
    assert cluster.commands(3) == [b"x"]


def test_a_broken_link_is_resumed_with_what_is_not_acknowledged() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"a", b"b")
    cluster.pump(1)
    cluster.drop(lambda m: m.recipient == 3)
    cluster[1].unreachable(3)
    cluster.settle()
    assert cluster.commands(3) == [b"a", b"b"]


def test_an_old_rejection_does_not_move_next_index_back() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"a", b"b")
    cluster.settle()
    before = cluster[1].progress[3].next_index
    cluster.step(AppendEntriesReply(3, 1, 1, success=False, match_index=1, conflict_index=0))
    progress = cluster[1].progress[3]
    assert (progress.replication, progress.next_index) == (Replication.REPLICATE, before)


def test_an_old_acknowledgement_moves_no_match_index_back() -> None:
    """PySyncObj #167, raftos #25."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"a", b"b")
    cluster.settle()
    cluster.step(AppendEntriesReply(3, 1, 1, success=True, match_index=1))
    assert cluster[1].progress[3].match_index == 3


def test_reordered_appends_are_repaired() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for command in (b"a", b"b", b"c"):
        cluster.propose(1, command)
        cluster.pump(1)
    cluster.network.reverse()
    cluster.settle()
    cluster.beat(1)
    assert cluster.commands(3) == cluster.commands(2) == [b"a", b"b", b"c"]

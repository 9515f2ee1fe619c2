"""Raft section 7: log compaction and snapshots."""

from __future__ import annotations

import pytest

from raftkv.errors import InvariantViolation
from raftkv.raft.entry import Entry, EntryKind, SnapshotPoint
from raftkv.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat, InstallSnapshot
from raftkv.raft.progress import Replication
from raftkv.raft.ready import RaftConfig
from tests.raft.cluster import Cluster, Envelope, members
from tests.raft.node import Installed


def lagging(*, learners: tuple[int, ...] = ()) -> Cluster:
    """Node 3 was away while 1, 2 wrote a, b, c; they have compacted their logs."""
    cluster = Cluster(3, learners)
    cluster.elect(1)
    cluster.isolate(3)
    for command in (b"a", b"b", b"c"):
        cluster.propose(1, command)
        cluster.settle()
    for node_id in (1, 2):
        cluster.nodes[node_id].compact(cluster[node_id].last_applied)
        cluster.observe(node_id)
    for _ in range(cluster.config.election_ticks_min):  # 3 stops being counted as active
        cluster.tick(1)
        cluster.settle()
    cluster.heal()
    return cluster


def snapshot_offered() -> tuple[Cluster, Envelope]:
    """The leader's snapshot is on its way to node 3."""
    cluster = lagging()
    cluster.tick(1, 2)
    cluster.settle(hold=lambda m: isinstance(m, InstallSnapshot))
    (envelope,) = [e for e in cluster.network if isinstance(e.message, InstallSnapshot)]
    return cluster, envelope


def test_a_follower_that_lacks_compacted_entries_gets_a_snapshot_and_then_the_log() -> None:
    cluster = lagging()
    cluster.beat(1)
    cluster.beat(1)
    assert cluster.commands(3) == [b"a", b"b", b"c"]
    assert cluster[3].log.first_index == 5
    cluster.propose(1, b"d")
    cluster.settle()
    assert cluster.commands(3) == [b"a", b"b", b"c", b"d"]
    assert cluster[1].progress[3].replication is Replication.REPLICATE


def test_no_entries_are_sent_while_a_snapshot_is_on_its_way() -> None:
    cluster, _ = snapshot_offered()
    cluster.propose(1, b"d")
    cluster.tick(1, 2)
    cluster.settle(hold=lambda m: m.recipient == 3)
    assert not cluster.sent(AppendEntries, to=3)
    assert len(cluster.sent(InstallSnapshot)) == 1
    assert cluster.commands(2)[-1] == b"d"


def test_a_peer_that_is_away_is_not_sent_snapshots() -> None:
    cluster = lagging()
    cluster.isolate(3)
    cluster[1].unreachable(3)
    for _ in range(30):
        cluster.tick(1)
        cluster.settle(hold=lambda m: isinstance(m, InstallSnapshot))
    assert not cluster.sent(InstallSnapshot)


def test_the_commit_index_moves_only_when_the_data_is_installed() -> None:
    """nodedb #162: a snapshot's index must not advance without its data."""
    cluster, envelope = snapshot_offered()
    cluster.nodes[3].slow_disk = True
    before = cluster[3].commit_index
    cluster.deliver(envelope)
    cluster.tick(1, 2)
    cluster.settle()
    assert cluster.nodes[3].installing is not None
    assert cluster[3].commit_index == cluster[3].last_applied == before
    cluster.finish_install(3)
    assert cluster[3].commit_index == cluster[3].last_applied == 4


def test_a_snapshot_brings_its_membership() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.isolate(3)
    cluster[1].propose_membership(members([1, 2, 3], [4]))
    cluster.add_node(4)
    cluster.settle()
    cluster.nodes[1].compact(cluster[1].last_applied)
    cluster.heal()
    cluster.beat(1)
    cluster.beat(1)
    assert cluster[3].log.compacted_index > 1
    assert cluster[3].membership.learners == {4}
    assert cluster[3].membership_committed


def test_a_follower_that_has_the_last_entry_already_only_moves_its_commit_index() -> None:
    cluster = Cluster(3)
    cluster.write_log(3, [1, 1, 1, 1], current_term=1)
    cluster.invariants.committed.update(dict.fromkeys((1, 2, 3), (1, 1)))
    point = SnapshotPoint(3, 1, members([1, 2, 3]))
    cluster.step(InstallSnapshot(1, 3, 1, point))
    cluster.settle(hold=lambda m: True)
    assert cluster.nodes[3].installing is None
    assert cluster[3].commit_index == 3
    assert cluster[3].log.last_index == 4
    assert [m.match_index for m in cluster.sent(AppendEntriesReply)] == [3]


def test_a_late_snapshot_does_not_drop_entries_that_are_being_acknowledged() -> None:
    """The trace: entries 1..4 are being written when an old snapshot of 1..2 arrives.

    To install it would throw 3, 4 away after they were acknowledged: figure 13, step 6.
    """
    cluster = Cluster(3)
    cluster.nodes[3].slow_disk = True
    entries = tuple(Entry(1, index, EntryKind.COMMANDS, b"x") for index in (1, 2, 3, 4))
    cluster.invariants.committed.update({1: (1, 1), 2: (1, 1)})
    cluster.step(AppendEntries(1, 3, 1, 0, 0, 0, entries[:3]))
    cluster.pump(3)
    cluster.step(AppendEntries(1, 3, 1, 3, 1, 0, entries[3:]))
    point = SnapshotPoint(2, 1, members([1, 2, 3]))
    cluster.step(InstallSnapshot(1, 3, 1, point))
    for _ in range(2):
        cluster.finish_write(3)
        cluster.pump(3)
    assert cluster.nodes[3].installing is None
    assert max(m.match_index for m in cluster.sent(AppendEntriesReply)) == 4
    assert cluster[3].log.last_index == cluster.nodes[3].disk.last_index == 4


def test_a_snapshot_of_less_than_is_committed_is_not_taken() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.settle()
    old = InstallSnapshot(1, 3, 1, SnapshotPoint(1, 1, members([1, 2, 3])))
    assert not cluster[3].wants_snapshot(old)
    cluster.step(old)
    cluster.settle(hold=lambda m: True)
    assert cluster.nodes[3].installing is None
    assert [m.match_index for m in cluster.sent(AppendEntriesReply)] == [2]
    newer = InstallSnapshot(1, 3, 1, SnapshotPoint(5, 1, members([1, 2, 3])))
    assert cluster[3].wants_snapshot(newer)


def test_a_snapshot_of_a_deposed_leader_is_not_taken() -> None:
    cluster, envelope = snapshot_offered()
    cluster[3].step(Heartbeat(2, 3, 9, 0, 1))
    assert not cluster[3].wants_snapshot(envelope.message)
    cluster.deliver(envelope)
    cluster.settle(hold=lambda m: m.sender == 2)
    assert cluster.nodes[3].installing is None
    assert cluster[3].commit_index == 1


def test_a_conflicting_log_is_replaced_as_a_whole() -> None:
    cluster = Cluster(3)
    cluster.write_log(1, [1, 3, 3, 3], current_term=3)
    cluster.write_log(2, [1, 3, 3, 3], current_term=3)
    cluster.write_log(3, [1, 2, 2, 2, 2, 2, 2], current_term=3)
    cluster.isolate(3)
    cluster.elect(1)
    cluster.nodes[1].compact(cluster[1].last_applied)
    cluster.heal()
    cluster.beat(1)
    cluster.beat(1)
    assert (cluster[3].log.compacted_index, cluster[3].log.last_index) == (5, 5)
    assert cluster[3].last_applied == 5


def test_nothing_is_written_or_appended_while_a_snapshot_is_installed() -> None:
    cluster, envelope = snapshot_offered()
    cluster.nodes[3].slow_disk = True
    cluster.deliver(envelope)
    cluster.pump(3)
    last = cluster[3].log.last_index
    entry = Entry(1, 2, EntryKind.COMMANDS, b"a")
    cluster.step(AppendEntries(1, 3, 1, 1, 1, 0, (entry,)))
    cluster.step(Heartbeat(2, 3, 9, 0, 1))  # a new term, to be written
    cluster.pump(3)
    assert cluster[3].log.last_index == last
    assert cluster.nodes[3].writing is None
    cluster.finish_install(3)
    cluster.pump(3)
    assert cluster.nodes[3].writing is not None


def test_a_snapshot_waits_for_the_write_that_is_under_way() -> None:
    cluster, envelope = snapshot_offered()
    cluster.nodes[3].slow_disk = True
    cluster.step(Heartbeat(1, 3, 1, 0, 1))
    cluster[3].step(AppendEntries(1, 3, 1, 1, 1, 0, (Entry(1, 2, EntryKind.COMMANDS, b"a"),)))
    cluster.pump(3)
    cluster.deliver(envelope)
    cluster.pump(3)
    assert cluster.nodes[3].installing is None
    cluster.finish_write(3)
    cluster.pump(3)
    assert cluster.nodes[3].installing is not None
    cluster.finish_install(3)
    cluster.settle()
    assert cluster.commands(3) == [b"a", b"b", b"c"]


def test_a_write_across_an_installation_stops_the_node() -> None:
    cluster = Cluster(3)
    with pytest.raises(InvariantViolation, match="no write crosses"):
        cluster[1].snapshot_installed()


def test_a_node_that_waits_for_a_snapshot_is_not_electable() -> None:
    cluster, envelope = snapshot_offered()
    cluster.nodes[3].slow_disk = True
    cluster.deliver(envelope)
    term = cluster[3].current_term
    cluster.tick(3, 5 * cluster.config.election_ticks_max)
    assert cluster[3].current_term == term
    assert not cluster[3].electable
    cluster.pump(3)
    cluster.finish_install(3)
    assert cluster[3].electable


def test_a_snapshot_that_was_lost_or_refused_is_offered_again() -> None:
    cluster, envelope = snapshot_offered()
    cluster.lose(envelope)
    cluster.tick(1, 2)
    cluster.settle(hold=lambda m: isinstance(m, InstallSnapshot))
    (again,) = [e for e in cluster.network if isinstance(e.message, InstallSnapshot)]
    cluster.nodes[3].slow_disk = True
    cluster.deliver(again)
    cluster.pump(3)
    cluster.nodes[3].refuse_install()
    cluster.nodes[3].slow_disk = False
    assert cluster[3].commit_index == 1
    for _ in range(3):
        cluster.beat(1)
    assert cluster.commands(3) == [b"a", b"b", b"c"]


def test_a_snapshot_whose_acknowledgement_was_lost_is_not_offered_again() -> None:
    """The follower would refuse it for ever, and get no entry: with another one gone, nothing
    would commit any more.
    """
    cluster, envelope = snapshot_offered()
    cluster.deliver(envelope, receipt=False)
    cluster.settle(hold=lambda m: m.sender == 3)
    assert cluster[3].last_applied == 4
    assert cluster.drop(lambda m: m.sender == 3)
    cluster.isolate(2)
    cluster.propose(1, b"d")
    for _ in range(2):
        cluster.beat(1)
    assert len(cluster.sent(InstallSnapshot)) == 0
    assert cluster.commands(3)[-1] == b"d"


@pytest.mark.parametrize("installed", list(Installed))
def test_after_a_crash_in_the_middle_of_an_installation_the_node_catches_up(installed) -> None:
    """redisraft #43: state and log leave no gap at restart."""
    cluster, envelope = snapshot_offered()
    cluster.nodes[3].slow_disk = True
    cluster.deliver(envelope)
    cluster.pump(3)
    cluster.nodes[3].crash(installed=installed)
    cluster.nodes[3].slow_disk = False
    cluster.restart(3)
    assert cluster[3].last_applied == (0 if installed is Installed.NOTHING else 4)
    for _ in range(3):
        cluster.beat(1)
    assert cluster.commands(3) == [b"a", b"b", b"c"]
    assert not cluster.network


def test_a_node_whose_state_ends_before_its_log_refuses_to_start() -> None:
    cluster = Cluster(1)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.settle()
    cluster.nodes[1].compact(2)
    node = cluster.nodes[1]
    node.crash()
    node.state.history.pop()
    with pytest.raises(InvariantViolation, match="what was persisted fits together"):
        node.start()


def test_only_what_is_applied_and_on_disk_is_compacted() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.isolate(1)
    cluster.propose(1, b"x")
    cluster.settle()
    with pytest.raises(InvariantViolation, match="only what is applied is compacted"):
        cluster[1].compact(2)


def test_a_node_starts_from_a_compacted_log_and_its_state() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for command in (b"a", b"b"):
        cluster.propose(1, command)
        cluster.settle()
    for node_id in (1, 2, 3):
        cluster.nodes[node_id].compact(2)
        cluster.crash(node_id)
    cluster.restart(1, 2, 3)
    assert [cluster[n].log.first_index for n in (1, 2, 3)] == [3, 3, 3]
    cluster.elect(2)
    assert cluster.commands(3) == [b"a", b"b"]


def test_what_the_state_lost_in_a_power_cut_is_replayed_from_the_log() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for command in (b"a", b"b", b"c"):
        cluster.propose(1, command)
        cluster.settle()
    cluster.nodes[3].crash(state_keeps_index=2)
    cluster.restart(3)
    assert cluster[3].last_applied == 2
    cluster.beat(1)
    assert cluster.commands(3) == [b"a", b"b", b"c"]


def test_a_full_window_that_was_lost_and_compacted_away_ends_in_a_snapshot() -> None:
    """The trace: the window to 3 is full, all of it is lost, and the log moves past it.

    What the leader would ask about is gone from its log, and no slot ever came free again.
    """
    cluster = Cluster(3, config=RaftConfig(in_flight_messages_max=2, append_bytes_max=1))
    cluster.elect(1)
    for command in (b"a", b"b", b"c", b"d", b"e"):
        cluster.propose(1, command)
        cluster.settle(hold=lambda m: m.recipient == 3)
    assert cluster[1].progress[3].paused
    cluster.drop(lambda m: True)
    cluster.nodes[1].compact(cluster[1].last_applied)
    for _ in range(4):
        cluster.beat(1)
    assert cluster.commands(3) == [b"a", b"b", b"c", b"d", b"e"]


def test_the_term_of_a_snapshot_is_on_disk_before_the_snapshot_is_installed() -> None:
    """The trace: a snapshot is the first message of a term, and a crash follows it.

    A log that ends in a higher term than the node knows would keep it from ever starting again.
    """
    cluster, envelope = snapshot_offered()
    cluster[3].snapshot_refused()
    point = SnapshotPoint(4, 5, members([1, 2, 3]))
    data = envelope.data
    assert data is not None
    data.history[3] = Entry(5, 4, EntryKind.COMMANDS, b"c")
    cluster.nodes[3].slow_disk = True
    cluster.nodes[3].received[4] = data
    cluster[3].step(InstallSnapshot(2, 3, 5, point))
    while cluster.nodes[3].installing is None:
        cluster.pump(3)
        if cluster.nodes[3].writing is not None:
            cluster.nodes[3].finish_write()
    cluster.nodes[3].crash(installed=Installed.EVERYTHING)
    cluster.nodes[3].start()
    assert cluster[3].current_term == 5

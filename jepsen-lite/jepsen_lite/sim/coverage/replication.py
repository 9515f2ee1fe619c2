"""Observes the replication of the log: progress of peers, rejections, truncation, compaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jepsen_lite.sim.coverage.mark import (
    REPLICATION_EVENTS,
    Reach,
    replication_moves,
    replication_when,
)
from jepsen_lite.sim.coverage.wraps import Wraps
from jepsen_lite.sim.nodes.cluster import Cluster
from jepsen_lite.sim.nodes.host import Host
from raftkv.node.log_compaction import LogCompaction
from raftkv.node.snapshots import SnapshotInstaller
from raftkv.raft.entry import Entry, EntryKind
from raftkv.raft.log import Log
from raftkv.raft.messages import AppendEntries, AppendEntriesReply, InstallSnapshot
from raftkv.raft.progress import Progress, Replication
from raftkv.raft.raft import Raft
from raftkv.raft.replication import Replicator

PEER_CRASHES, LEADER_CRASHES, PEER_INSTALLS, LEADER_COMPACTS = REPLICATION_EVENTS


def observe_leaders_side(wraps: Wraps, reach: Reach) -> None:
    """What a leader does with the replies of its peers."""

    @wraps.around(Progress, "_become")
    def become(original: Callable[..., None], progress: Progress, state: Replication) -> None:
        before = progress.replication
        original(progress, state)
        if before is not state:
            reach(replication_moves(before, state))

    @wraps.around(Replicator, "reject")
    def reject(
        original: Callable[..., None], replicator: Replicator, message: AppendEntriesReply
    ) -> None:
        progress = replicator.progress[message.sender]
        before = progress.replication, progress.next_index
        original(replicator, message)
        if (progress.replication, progress.next_index) == before:
            reach("a rejection is out of date")
        elif before[0] is Replication.REPLICATE:
            reach("a rejection ends a pipeline")
        elif before[1] - progress.next_index > 1:
            reach("a conflict hint skips entries")

    @wraps.around(Replicator, "unreachable")
    def unreachable(original: Callable[..., None], replicator: Replicator, peer: int) -> None:
        progress = replicator.progress.get(peer)
        if progress is not None and progress.replication is Replication.REPLICATE:
            reach("a link breaks under a pipeline")
        original(replicator, peer)

    @wraps.around(Replicator, "replicate")
    def replicate(original: Callable[..., None], replicator: Replicator, commit_index: int) -> None:
        original(replicator, commit_index)
        last_index = replicator._log.last_index
        for progress in replicator.progress.values():
            lacks = progress.next_index <= last_index
            if lacks and progress.paused and progress.replication is Replication.REPLICATE:
                reach("flow control holds entries back")

    @wraps.around(Replicator, "probe_at")
    def probe_at(original: Callable[..., None], *args: Any) -> None:
        reach("an acknowledgement names another history")
        original(*args)


def observe_followers_side(wraps: Wraps, reach: Reach) -> None:
    """What a follower does with entries."""

    @wraps.around(Raft, "_handle_append_entries")
    def handle_append_entries(
        original: Callable[..., None], raft: Raft, message: AppendEntries
    ) -> None:
        if raft.installing:
            reach("entries arrive during an installation")
        elif message.prev_log_index < raft.commit_index:
            reach("entries arrive from below the commit index")
        elif message.prev_log_index > raft.log.last_index:
            reach("entries are rejected: the log is too short")
        elif not raft.log.matches(message.prev_log_index, message.prev_log_term):
            reach("entries are rejected: the log has another term there")
        original(raft, message)

    @wraps.around(Log, "merge")
    def merge(
        original: Callable[..., None], log: Log, entries: Sequence[Entry], commit_index: int
    ) -> None:
        if entries and log.term(entries[0].index) == entries[0].term:
            reach("entries arrive a second time")
        original(log, entries, commit_index)

    @wraps.around(Log, "_truncate")
    def truncate(original: Callable[..., None], log: Log, index: int, commit_index: int) -> None:
        reach("a follower cuts entries off")
        if index <= log.persisted_index:
            reach("a follower cuts entries off that are on its disk")
        tail = log.entries(index, log.last_index + 1, 1 << 62)
        if any(entry.kind is EntryKind.MEMBERSHIP for entry in tail):
            reach("an uncommitted configuration is cut off")
        original(log, index, commit_index)


def observe_states(wraps: Wraps, reach: Reach, cluster: Cluster) -> None:
    """Crashes, snapshots and compactions in each state of a peer."""

    def reach_of(node_id: int, event: str) -> None:
        leader = cluster.leader()
        if leader is None or leader.node is None or leader.node_id == node_id:
            return
        progress = leader.node.core.progress.get(node_id)
        if progress is not None:
            reach(replication_when(progress.replication, event))

    def reach_of_all(raft: Any, event: str) -> None:
        for progress in raft.progress.values():
            reach(replication_when(progress.replication, event))

    @wraps.around(Host, "crash")
    def crash(original: Callable[..., None], host: Host, *, power: bool) -> None:
        if host.node is not None:
            reach_of(host.node_id, PEER_CRASHES)
            reach_of_all(host.node.core, LEADER_CRASHES)
        original(host, power=power)

    @wraps.around(SnapshotInstaller, "install")
    async def install(
        original: Callable[..., Any], installer: SnapshotInstaller, message: InstallSnapshot
    ) -> None:
        reach_of(installer._replica.raft.node_id, PEER_INSTALLS)
        await original(installer, message)

    @wraps.around(LogCompaction, "_drop_entries")
    async def drop_entries(
        original: Callable[..., Any], compaction: LogCompaction, applied: int
    ) -> None:
        log = compaction._replica.raft.log
        before = log.compacted_index
        await original(compaction, applied)
        if log.compacted_index > before:
            reach("a log is compacted")
            reach_of_all(compaction._replica.raft, LEADER_COMPACTS)
            if compaction._snapshots.index_in_use is not None:
                reach("a log is compacted during a snapshot transfer")

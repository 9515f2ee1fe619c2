"""Observes snapshots, from the offer to the state that they replace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from jepsen_lite.sim.coverage.mark import Reach
from jepsen_lite.sim.coverage.wraps import Wraps
from jepsen_lite.sim.nodes.host import Host
from raftkv.errors import DamagedData, RaftkvError
from raftkv.node.change_feed import ChangeFeed
from raftkv.node.proposals import PendingProposals
from raftkv.node.snapshots import SnapshotInstaller, SnapshotTransfers
from raftkv.raft.messages import InstallSnapshot
from raftkv.raft.raft import Raft
from raftkv.server.watch.synced import SyncedWatchers


def observe_transfers(wraps: Wraps, reach: Reach) -> None:
    """Snapshots that are sent, offered and verified."""
    sending: set[int] = set()
    """The nodes that send one."""

    @wraps.around(SnapshotTransfers, "send")
    async def send(
        original: Callable[..., Any], transfers: SnapshotTransfers, peer: int, term: int
    ) -> Any:
        busy = transfers._busy
        if not busy:
            sending.add(transfers._node_id)
        try:
            point = await original(transfers, peer, term)
        except DamagedData:
            reach("a damaged snapshot is not sent")
            raise
        except RaftkvError:
            reach("a snapshot waits for another peer's" if busy else "a snapshot transfer fails")
            raise
        finally:
            if not busy:
                sending.discard(transfers._node_id)
        reach("a snapshot is sent")
        return point

    @wraps.around(SnapshotInstaller, "begin")
    def begin(original: Callable[..., Path], *args: Any) -> Path:
        try:
            return original(*args)
        except RaftkvError:
            reach("a snapshot is offered that is not wanted")
            raise

    @wraps.around(SnapshotInstaller, "verify")
    async def verify(original: Callable[..., Any], *args: Any) -> None:
        try:
            await original(*args)
        except DamagedData:
            reach("a snapshot arrives damaged")
            raise
        except RaftkvError:
            reach("a snapshot is no longer wanted when it has arrived")
            raise

    @wraps.around(Host, "crash")
    def crash(original: Callable[..., None], host: Host, *, power: bool) -> None:
        if host.node is not None:
            if host.node_id in sending:
                reach("a node crashes while it sends a snapshot")
                sending.remove(host.node_id)
            if cast("Raft", host.node.core).installing:
                reach("a node crashes while it installs a snapshot")
        original(host, power=power)


def observe_installations(wraps: Wraps, reach: Reach) -> None:
    """Snapshots that a node installs, and what they replace."""

    @wraps.around(Raft, "_handle_install_snapshot")
    def handle_install_snapshot(
        original: Callable[..., None], raft: Raft, message: InstallSnapshot
    ) -> None:
        if not raft.installing:
            point = message.snapshot
            index, term = point.last_included_index, point.last_included_term
            if index <= raft.commit_index:
                reach("a snapshot brings nothing new")
            elif raft.log.matches(index, term):
                reach("a snapshot ends inside the log")
        original(raft, message)

    @wraps.around(Raft, "snapshot_installed")
    def snapshot_installed(original: Callable[..., None], raft: Raft) -> None:
        message = raft._installing
        if message is not None and message.term < raft.current_term:
            reach("a snapshot of a former leader is installed")
        if raft.log.last_index > raft.commit_index:
            reach("a snapshot replaces uncommitted entries")
        original(raft)
        reach("a snapshot is installed")

    @wraps.around(ChangeFeed, "replace")
    def replace(original: Callable[..., None], feed: ChangeFeed, machine: Any) -> None:
        for subscriber in feed._subscribers:
            if isinstance(subscriber, SyncedWatchers):
                reach("a snapshot is installed beside a live watch")
            else:
                reach("a snapshot is installed beside a wait for a lock")
        original(feed, machine)

    @wraps.around(PendingProposals, "snapshot_installed")
    def proposals_survive(
        original: Callable[..., None], pending: PendingProposals, repeatable: Callable[..., bool]
    ) -> None:
        for waiting in pending._waiting.values():
            if waiting.term:
                kept = repeatable(waiting.submission.commands)
                reach(
                    "a pending write survives a snapshot"
                    if kept
                    else "a snapshot makes a write's outcome unknown"
                )
        original(pending, repeatable)

"""Observes disks, crashes, pauses and recoveries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jepsen_lite.sim.coverage.mark import Reach, crash_of
from jepsen_lite.sim.coverage.wraps import Wraps
from jepsen_lite.sim.nodes.cluster import Cluster
from jepsen_lite.sim.nodes.disk import Disk, SimulatedLog
from jepsen_lite.sim.nodes.host import Host
from raftkv.errors import DamagedData, DiskFull
from raftkv.node import node as node_module
from raftkv.node import recovery
from raftkv.node.leadership_transfer import Withdrawal
from raftkv.node.recovery import Recovered
from raftkv.node.state_comparison import StateComparison


def observe_crashes(wraps: Wraps, reach: Reach, cluster: Cluster) -> None:
    """Processes that end or stand still, and what of their writes survives."""

    @wraps.around(Host, "crash")
    def crash(original: Callable[..., None], host: Host, *, power: bool) -> None:
        node = host.node
        if node is not None and not node.stopped.done():
            core = node.core
            reach(crash_of(core.role, power=power))
            if core.leads and core.log.last_index > core.commit_index:
                reach("a leader crashes with uncommitted entries")
            if core.last_applied < core.commit_index:
                reach("a node crashes before it has applied what is committed")
        original(host, power=power)

    @wraps.around(Host, "resume")
    def resume(original: Callable[..., None], host: Host) -> None:
        paused = host.process is not None and host.process._paused
        if paused and host.node is not None and host.node.core.leads:
            deposed = cluster.leader() is not host
            reach("a paused leader goes on beside a later one" if deposed else "a leader goes on")
        original(host)

    @wraps.around(Disk, "_open_again")
    def open_again(original: Callable[..., None], disk: Disk, log: int, state: int) -> None:
        if disk.log.unsynced:
            reach("a crash comes during a write to the log")
            if log == 0:
                reach("a crash loses a write to the log")
            elif log < disk.log.unsynced:
                reach("a crash tears a write to the log")
        if state < len(disk.state.store.unsynced):
            reach("a crash loses part of the applied state")
        original(disk, log, state)

    @wraps.around(SimulatedLog, "append")
    async def append(original: Callable[..., Any], log: SimulatedLog, *args: Any) -> None:
        disk: Disk = getattr(log._wait_for_disk, "__self__")  # noqa: B009 - a method of the disk
        if disk.slow_s:
            reach("a sync is slow")
        try:
            await original(log, *args)
        except DiskFull:
            reach("a write finds the disk full")
            raise


def observe_recoveries(wraps: Wraps, reach: Reach) -> None:
    """What a node finds on its disk when it starts."""

    @wraps.around(node_module, "recover")
    async def recover(original: Callable[..., Any], *args: Any) -> Recovered:
        try:
            recovered: Recovered = await original(*args)
        except DamagedData:
            reach("a node refuses its damaged disk at its start")
            raise
        raft = recovered.raft
        if recovered.starts.own.number > 1:
            reach("a node starts again")
            if raft.log.last_index > raft.last_applied:
                reach("a node starts again with entries to apply")
            if raft.voted_for:
                reach("a node starts again with its vote of the term")
            if raft.log.compacted_index:
                reach("a node starts again with a compacted log")
            if raft.membership.joint:
                reach("a node starts again in a joint configuration")
        return recovered

    @wraps.around(recovery, "_reconcile")
    async def reconcile(
        original: Callable[..., Any], node_id: int, store: Any, recovered: Any, machine: Any
    ) -> Any:
        found = await original(node_id, store, recovered, machine)
        if found is not recovered:
            reach("a crash during an installation leaves a new state and an old log")
        return found

    @wraps.around(Withdrawal, "begin")
    def begin(original: Callable[..., None], withdrawal: Withdrawal, reason: Any) -> None:
        reach("a node withdraws from damaged data")
        original(withdrawal, reason)

    @wraps.around(Withdrawal, "quarantine")
    def quarantine(original: Callable[..., None], withdrawal: Withdrawal, found: str) -> None:
        reach("a node with a wrong state is quarantined")
        original(withdrawal, found)

    @wraps.around(StateComparison, "judge")
    def judge(original: Callable[..., Any], comparison: StateComparison, *args: Any) -> Any:
        before = comparison.in_dispute
        found = original(comparison, *args)
        if comparison.in_dispute and not before:
            reach("two states differ, and no majority agrees on either")
        if before and not comparison.in_dispute:
            reach("a member that lagged ends a dispute about the state")
        return found

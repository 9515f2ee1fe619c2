"""Planted bugs in leases, locks and watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from jepsen_lite.mutants.mutant import Patch, mutant
from raftkv.client.coordination.queue_entry import EntryWatches, QueueEntry
from raftkv.kv import locks, operations
from raftkv.kv.execution import Execution
from raftkv.kv.leases import Leases
from raftkv.kv.machine import Applied, StateMachine
from raftkv.kv.pace import Steps
from raftkv.node.clocks import ClusterClock
from raftkv.node.leader_maintenance import LeaderMaintenance
from raftkv.raft.entry import Entry, EntryKind
from raftkv.rpc.v1 import kv_pb2
from raftkv.server.watch.groups import Watcher
from raftkv.server.watch.unsynced import UnsyncedGroup
from raftkv.wire.lock_keys import name_of

REVOKE_TIMEOUT_S = 5.0


@mutant(
    "old leader revokes a lease that was renewed",
    "coordination",
    caught_by="with commands that no client has submitted",
)
def old_leader_revokes() -> list[Patch]:
    """etcd #12528, #15247: the leader ends leases by commands of its own making. One that was
    paused goes by what it knew; its command reaches the next leader, who has renewed the lease.
    """

    def revoke_what_is_over(self: LeaderMaintenance, now: float) -> None:
        replica, due = self._replica, self._replica.machine.next_deadline_ms()
        if due is None or not replica.raft.established or self._clock.read_ms(now) < due:
            return
        batch = kv_pb2.CommandBatch()
        leases = replica.machine._runner.leases
        batch.commands.add().lease_revoke.lease = leases._deadlines[0][1]
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        pending = self._proposer.pending
        pending.add(batch.SerializeToString(), answered, now + REVOKE_TIMEOUT_S)

    return [(LeaderMaintenance, "_propose_stamp_if_due", revoke_what_is_over)]


@mutant(
    "stale unlock deletes the next holder's lock",
    "coordination",
    "candidates",
    caught_by="^(lock|election): .* got the lock .* held it since|differs from the model",
    # An unlock has to be under way while its lock ends: one run in twenty has that.
    seeds=range(1, 61),
)
def unlock_by_name() -> list[Patch]:
    """etcd #22082: an unlock that arrives late, when its lock is over, releases the lock of the
    present holder.
    """
    delete_range = operations.delete_range

    def delete(
        execution: Execution, request: kv_pb2.DeleteRange, result: kv_pb2.Result
    ) -> Steps[None]:
        writer, name = execution.writer, name_of(request.key)
        if name is not None and writer.get(request.key) is None:
            holder = next(locks.entries(writer.overlay, name), None)
            if holder is not None:
                request = kv_pb2.DeleteRange(key=holder.key)
        yield from delete_range(execution, request, result)

    return [(operations, "delete_range", delete)]


@mutant(
    "lease lifetime starts again at each leader change",
    "coordination",
    caught_by="now ends at .* but it was not renewed|differs from the model",
)
def leases_start_again() -> list[Patch]:
    """etcd PR 13508: a new leader gives every lease its whole time to live once more."""
    apply = StateMachine.apply_in_steps

    def apply_each(
        self: StateMachine, entries: Sequence[Entry], hash_at: Callable[[int], int]
    ) -> Steps[list[Applied]]:
        applied: list[Applied] = []
        for entry in entries:
            if entry.kind is EntryKind.NOOP:
                for lease in list(self.leases()):
                    self._runner.leases.renew(lease)
            applied += yield from apply(self, [entry], hash_at)
        return applied

    return [(StateMachine, "apply_in_steps", apply_each)]


@mutant(
    "lease lifetime starts again at each leader change",
    "coordination",
    caught_by="leads with its cluster time .* behind that of the state",
)
def cluster_time_starts_again() -> list[Patch]:
    """The same from the other side: a new leader's cluster time begins anew, so that no lease ends
    until it has caught up with that of its predecessors.
    """
    start = ClusterClock.start

    def start_anew(self: ClusterClock, applied_time_ms: int, now_s: float) -> None:
        start(self, 0, now_s)

    return [(ClusterClock, "start", start_anew)]


@mutant(
    "fencing token not checked, or not monotonic",
    "coordination",
    caught_by="fenced-lock: .* was accepted|differs from the model",
)
def fence_not_checked() -> list[Patch]:
    """A holder that was paused and has lost its lock goes on writing under its old token."""

    def check_fence(*_: object) -> Steps[None]:
        """Every token is accepted."""
        yield from ()

    return [(locks, "check_fence", check_fence)]


@mutant(
    "watch skips events across a compaction",
    "compactions",
    caught_by="watch: .* was never delivered",
)
def watch_skips_the_compacted() -> list[Patch]:
    """etcd PR 17610: a watch that lags behind a compaction goes on after it, as if nothing had been
    before.
    """

    def drop_none(self: UnsyncedGroup, compacted_revision: int) -> list[Watcher]:
        self.position = max(self.position, compacted_revision)
        return []

    return [(UnsyncedGroup, "drop_compacted", drop_none)]


@mutant(
    "an ended lease is never removed",
    "coordination",
    caught_by="is still there, but its time was over|differs from the model",
)
def upkeep_leaves_leases() -> list[Patch]:
    """The leader's entries remove old versions and idempotency keys, and no leases."""

    def none_is_over(self: Leases) -> None:
        return None

    return [(Leases, "expired", none_is_over)]


@mutant(
    "a holder does not learn that its lock was taken",
    "removals",
    caught_by="did not know of its loss within 1 s",
)
def holder_watches_no_key() -> list[Patch]:
    """A holder trusts its lease alone. An operator deletes its key or revokes its lease, and the
    next one holds the name beside it until the next renewal, or for good.
    """

    def watch_nothing(self: EntryWatches, place: QueueEntry) -> None:
        """Its lease has to do."""

    return [(EntryWatches, "add", watch_nothing)]


MUTANTS = (
    old_leader_revokes,
    unlock_by_name,
    leases_start_again,
    cluster_time_starts_again,
    fence_not_checked,
    watch_skips_the_compacted,
    upkeep_leaves_leases,
    holder_watches_no_key,
)

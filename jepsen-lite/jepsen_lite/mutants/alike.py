"""Planted bugs that make all replicas wrong alike: only the independent model sees them."""

from __future__ import annotations

from jepsen_lite.mutants.mutant import Patch, mutant
from raftkv.kv import operations
from raftkv.kv.budget import Budget
from raftkv.kv.compaction import Compaction
from raftkv.kv.execution import Execution
from raftkv.kv.leases import Leases
from raftkv.kv.mvcc import Writer
from raftkv.kv.pace import Steps
from raftkv.kv.records import lease_key
from raftkv.kv.sessions import Sessions
from raftkv.kv.store import Family
from raftkv.rpc.v1 import kv_pb2
from raftkv.wire.ranges import prefix_end

ROW = "all replicas are wrong alike"


@mutant(
    ROW,
    "anything",
    caught_by=r"differs from the model after entry .*: results\[\d+\]\.revision",
)
def deletion_of_nothing_counts() -> list[Patch]:
    """A deletion that finds no key takes a revision of its own, in which nothing changes."""
    delete_range = operations.delete_range

    def delete(
        execution: Execution, request: kv_pb2.DeleteRange, result: kv_pb2.Result
    ) -> Steps[None]:
        yield from delete_range(execution, request, result)
        if not result.delete_range.deleted:
            execution.writer.position += 1
            result.revision = execution.writer.visible_revision

    return [(operations, "delete_range", delete)]


@mutant(
    ROW,
    "coordination",
    caught_by="differs from the model after entry .*: (key|results)",
)
def lease_end_spares_a_key() -> list[Patch]:
    """The last of several keys of a lease stays when the lease ends."""
    end = Leases.end

    def end_but_one(self: Leases, lease: int, writer: Writer, budget: Budget) -> Steps[bool]:
        prefix = lease_key(lease)
        rows = [row for row, _ in self._overlay.scan(Family.LEASE_KEYS, prefix, prefix_end(prefix))]
        if len(rows) > 1:
            self._overlay.changes[Family.LEASE_KEYS][rows[-1]] = None
        return (yield from end(self, lease, writer, budget))

    return [(Leases, "end", end_but_one)]


@mutant(
    ROW,
    "compactions",
    caught_by="differs from the model after entry .*: old version .* is missing",
)
def compaction_removes_too_much() -> list[Patch]:
    """What the revision after the compacted one has superseded is removed, too."""
    compaction_step = Compaction.step

    def step(self: Compaction, changes_max: int) -> None:
        meta = self._meta
        further = meta.compacted_revision < meta.revision
        meta.compacted_revision += further
        compaction_step(self, changes_max)
        meta.compacted_revision -= further

    return [(Compaction, "step", step)]


@mutant(
    ROW,
    "relays",
    caught_by="differs from the model after entry .*: results",
)
def retry_gets_the_newest_result() -> list[Patch]:
    """A batch that is repeated gets the result of its session's newest batch."""
    result = Sessions.result

    def result_of_newest(self: Sessions, session: int, sequence: int) -> bytes | None:
        kept = self._sessions.get(session)
        if kept is None or sequence not in kept.sizes:
            return None
        return result(self, session, max(kept.sizes))

    return [(Sessions, "result", result_of_newest)]


@mutant(
    ROW,
    "anything",
    caught_by=r"differs from the model after entry .*: results\[\d+\]\.delete_range",
)
def limit_off_by_one() -> list[Patch]:
    """A deletion in pages deletes one key more than its limit, and reports all of them."""
    doomed = operations._keys_to_delete

    def doomed_and_one(
        execution: Execution, request: kv_pb2.DeleteRange
    ) -> Steps[tuple[list[tuple[bytes, bytes]], bool]]:
        wider = kv_pb2.DeleteRange()
        wider.CopyFrom(request)
        wider.limit += wider.limit > 0
        return (yield from doomed(execution, wider))

    return [(operations, "_keys_to_delete", doomed_and_one)]


MUTANTS = (
    deletion_of_nothing_counts,
    lease_end_spares_a_key,
    compaction_removes_too_much,
    retry_gets_the_newest_result,
    limit_off_by_one,
)

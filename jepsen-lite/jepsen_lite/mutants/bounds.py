"""Planted bugs in what bounds work and space: steps of an apply, pages of reads and deletions,
automatic compaction.
"""

from __future__ import annotations

from collections.abc import Iterator

from jepsen_lite.mutants.mutant import Patch, mutant
from raftkv.kv import operations, ranges
from raftkv.kv.budget import Budget
from raftkv.kv.compaction import Compaction
from raftkv.kv.execution import Execution
from raftkv.kv.pace import Steps
from raftkv.kv.ranges import Row
from raftkv.kv.store import Family
from raftkv.node.history_compaction import HistoryCompaction
from raftkv.node.history_record import HistoryPins
from raftkv.rpc.v1 import kv_pb2


@mutant(
    "a page leaves out the key that it stopped at",
    "anything",
    caught_by="queue: .*lost",
)
def page_skips_a_key() -> list[Patch]:
    """The next page begins behind the key that did not fit, so no page has it."""
    fill = ranges._fill_page

    def fill_and_skip(
        rows: Iterator[Row], request: kv_pb2.Range, result: kv_pb2.RangeResult, budget: Budget
    ) -> Steps[None]:
        yield from fill(rows, request, result, budget)
        if result.more:
            result.next_key += b"\0"

    return [(ranges, "_fill_page", fill_and_skip)]


@mutant(
    "a deletion in pages says that it is through",
    "anything",
    caught_by="queue: left behind|differs from the model",
)
def deletion_hides_the_rest() -> list[Patch]:
    """A page that stops at its limit says that there is nothing more."""
    doomed = operations._keys_to_delete

    def doomed_and_no_more(
        execution: Execution, request: kv_pb2.DeleteRange
    ) -> Steps[tuple[list[Row], bool]]:
        found, _ = yield from doomed(execution, request)
        return found, False

    return [(operations, "_keys_to_delete", doomed_and_no_more)]


@mutant(
    "a range is removed before what the same run has written in it",
    "compactions",
    caught_by="hold different states after entry|differs from the model",
    seeds=range(1, 21),
)
def removal_spares_its_own_run() -> list[Patch]:
    """The store removes ranges first. What a run wrote and then compacted stays on the nodes that
    apply both at once.
    """

    compaction_step = Compaction.step

    def step(self: Compaction, changes_max: int) -> None:
        written = dict(self._overlay.changes[Family.CHANGES])
        compaction_step(self, changes_max)
        self._overlay.changes[Family.CHANGES].update(written)

    return [(Compaction, "step", step)]


@mutant(
    "history is compacted under a scan",
    "bounded-history",
    caught_by="has just begun to use revision|REVISION_COMPACTED",
)
def compaction_does_not_wait() -> list[Patch]:
    """The leader compacts what is due at once, whatever revisions the members need."""

    def allowed_revision(self: HistoryCompaction, due: int, now_s: float) -> int:
        return due

    return [(HistoryCompaction, "_allowed_revision", allowed_revision)]


@mutant(
    "a follower does not report what its clients need",
    "bounded-history",
    caught_by="has just begun to use revision|REVISION_COMPACTED",
)
def a_follower_needs_the_present_only() -> list[Patch]:
    """A node reports its present revision, and not the older ones that its clients use."""

    def oldest(self: HistoryPins, present: int, now_s: float) -> int:
        return present

    return [(HistoryPins, "oldest", oldest)]


@mutant(
    "compaction leaves too few revisions",
    "bounded-history",
    caught_by="and the last \\d+ must stay",
)
def compaction_leaves_the_present_only() -> list[Patch]:
    """As soon as a bound is exceeded, the leader compacts up to its present revision."""
    due_revision = HistoryCompaction._due_revision

    def due_of_all(self: HistoryCompaction, time_ms: int) -> tuple[int, str]:
        due, by = due_revision(self, time_ms)
        return (self._replica.machine.revision, by) if due else (0, "")

    return [(HistoryCompaction, "_due_revision", due_of_all)]


MUTANTS = (
    page_skips_a_key,
    deletion_hides_the_rest,
    removal_spares_its_own_run,
    compaction_does_not_wait,
    a_follower_needs_the_present_only,
    compaction_leaves_the_present_only,
)

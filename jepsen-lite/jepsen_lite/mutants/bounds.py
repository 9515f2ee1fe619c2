"""Planted bugs in what bounds work: steps of an apply, pages of reads and deletions."""

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


MUTANTS = (page_skips_a_key, deletion_hides_the_rest, removal_spares_its_own_run)

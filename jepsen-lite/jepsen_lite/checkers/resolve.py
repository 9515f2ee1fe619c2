"""Unknown outcomes resolved from the committed history, where that is sound.

An operation of unknown outcome may take effect at any time after its invocation, or never. Of one
with an effect that differs from all others (a value written once, an idempotent id):

- Its effect is in the committed history, at revision r: it happened. Not by the moment when its
  caller gave up, for it may have arrived later; but before the end of every other call that was
  returned a revision of r or more, and before the end of the read of the history. The earliest of
  these is its end.
- Its effect is not there: it has not happened before that read began. It may still happen later,
  so it counts as failed only if nothing that is judged ended after that beginning; else it stays
  unknown. The history must be complete: nothing compacted, nothing overwritten without a trace.

A history narrowed so has an order that explains it exactly if the whole one has such an order that
agrees with the committed history. The caller defines
what an effect is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jepsen_lite.history import SETTLED, Event, Kind, Operation, ended_ns


@dataclass(frozen=True, slots=True)
class Committed:
    """The complete history of the state, as one linearizable read returned it.

    `revision_of` gives of each effect where it stands.
    """

    revision_of: Mapping[Any, int]
    read_began_ns: int
    read_ended_ns: int


def resolved(
    operations: Sequence[Operation],
    committed: Committed,
    effect_of: Callable[[Operation], Hashable | None],
    revision_returned: Callable[[Operation], int | None],
    answer_of: Callable[[Operation, int], Any],
) -> list[Operation]:
    """The operations, with OK or FAIL in place of INFO where that is certain.

    `effect_of` is None for an operation without an effect of its own, a read for example;
    `revision_returned` is the revision in the answer of one that succeeded, where it has one;
    `answer_of` is the answer that the caller of a resolved one would have got.
    """
    known_by = _KnownBy(operations, committed.read_ended_ns, revision_returned)
    nothing_later = all(
        ended_ns(each) < committed.read_began_ns for each in operations if each.kind is Kind.OK
    )
    found: list[Operation] = []
    for each in operations:
        effect = effect_of(each) if each.kind is Kind.INFO else None
        revision = None if effect is None else committed.revision_of.get(effect)
        if effect is None:
            found.append(each)
        elif revision is not None:
            found.append(_ok(each, answer_of(each, revision), known_by.moment_ns(revision)))
        else:
            found.append(_failed(each) if nothing_later else each)
    return found


class _KnownBy:
    """The earliest moments by which each revision is known to have been reached."""

    def __init__(
        self,
        operations: Sequence[Operation],
        latest_ns: int,
        revision_returned: Callable[[Operation], int | None],
    ) -> None:
        known = sorted(
            (revision, int(ended_ns(each)))
            for each in operations
            if each.kind is Kind.OK and (revision := revision_returned(each)) is not None
        )
        self._revisions = [revision for revision, _ in known]
        self._earliest_ns = [latest_ns] * (len(known) + 1)
        for place in range(len(known) - 1, -1, -1):
            self._earliest_ns[place] = min(known[place][1], self._earliest_ns[place + 1])

    def moment_ns(self, revision: int) -> int:
        return self._earliest_ns[bisect_left(self._revisions, revision)]


def _completion(operation: Operation, kind: Kind, value: Any, time_ns: int) -> Event:
    return replace(operation.invocation, kind=kind, value=value, time_ns=time_ns, error=SETTLED)


def _ok(operation: Operation, answer: Any, moment_ns: int) -> Operation:
    # Known before it was asked for: that is an anomaly, which checkers are to see as such.
    moment_ns = max(moment_ns, operation.invocation.time_ns)
    return replace(operation, completion=_completion(operation, Kind.OK, answer, moment_ns))


def _failed(operation: Operation) -> Operation:
    last = operation.completion or operation.invocation
    value = operation.invocation.value
    return replace(operation, completion=_completion(operation, Kind.FAIL, value, last.time_ns))

"""The actual changes of watched keys, as far as they are certain.

The operations are those that `checkers.watch` describes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jepsen_lite.history import NEVER_NS, Kind, Operation, answered, began_ns, returned

REFUSED = "REVISION_COMPACTED"
"""The error of a watch whose history was gone, in runs whose watches did not go on behind it."""

Change = tuple[int, str]  # revision and key
Effect = tuple[str, Any]  # kind and value


@dataclass(frozen=True, slots=True)
class Truth:
    """A change, and what was there before it: `previous` None where nothing was.

    `previous_may_be_gone`: a compaction may have taken it before all watchers observed it.
    """

    revision: int
    key: str
    kind: str
    value: Any
    previous: Any
    previous_known: bool
    previous_may_be_gone: bool


class Stream:
    """All that one watcher observed; `operations` are its own, in their order.

    It was to observe everything from `start` to `reached`, and of what came before `start` but
    for the `gaps`: after the first of two revisions up to the second one history was compacted.
    """

    def __init__(self, name: str, operations: Sequence[Operation]) -> None:
        self.name = name
        self.operations = operations
        self.wanted: Mapping[str, Any] = operations[0].invocation.value
        self.batches: list[dict[str, Any]] = [
            batch for each in operations for batch in returned(each)
        ]
        self.events: list[dict[str, Any]] = [
            event for batch in self.batches for event in batch["events"]
        ]
        self.gaps: list[tuple[int, int]] = []
        self.start: int = self.wanted["from"]
        self.reached = self.start - 1
        for batch in self.batches:
            if batch.get("compacted"):
                self.gaps.append((self.reached, batch["revision"]))
                self.start = batch["revision"] + 1
            self.reached = max(self.reached, batch["revision"])

    def was_due(self, change: Truth) -> bool:
        """Whether it wanted this change, has come past it, and found it in history."""
        revision = change.revision
        return (
            self.wanted["from"] <= revision <= self.reached
            and not any(after < revision <= up_to for after, up_to in self.gaps)
            and change.key.startswith(self.wanted["prefix"])
            and change.kind in self.wanted["kinds"]
        )


def streams_of(operations: Sequence[Operation]) -> list[Stream]:
    """Those of all watchers."""
    by_name: defaultdict[str, list[Operation]] = defaultdict(list)
    for each in sorted(answered(operations, "watch"), key=began_ns):
        by_name[each.invocation.key].append(each)
    return [Stream(name, of_name) for name, of_name in by_name.items()]


def acknowledged(operations: Iterable[Operation]) -> dict[Change, Effect]:
    """The changes that were acknowledged to writers. Histories of older runs lack them."""
    changes: dict[Change, Effect] = {}
    for each in operations:
        answer = returned(each)
        if each.kind is Kind.OK and isinstance(answer, dict):
            for key, value in answer["changes"].items():
                changes[answer["revision"], key] = ("delete" if value is None else "put", value)
    return changes


def compacted(operations: Iterable[Operation], streams: Iterable[Stream]) -> float:
    """No history was compacted beyond this revision while a watcher still wanted it."""
    # Such an error lacks the revision up to which history was gone.
    endings = (each.completion for each in operations if each.completion is not None)
    if any(ending.error == REFUSED for ending in endings):
        return NEVER_NS
    return max((each.start for each in streams if each.gaps), default=0)


def truth(
    operations: Sequence[Operation], streams: Sequence[Stream], certain: Mapping[Change, Effect]
) -> dict[Change, Truth]:
    """By revision and key, in order, each change with the value that it replaced.

    Acknowledged changes are certain. Up to the last revision that it observed, the watcher that
    observed most is believed; beyond that the union of what the others observed, which lacks a
    change that all of them missed.
    """
    known = dict(certain)
    witness = _witness(streams, max((revision for revision, _ in certain), default=0))
    start, reached = (witness.start, witness.reached) if witness else (1, 0)
    for each in streams:
        for event in each.events:
            if each is witness or not start <= event["revision"] <= reached:
                change = event["revision"], event["key"]
                known.setdefault(change, (event["kind"], event["value"]))
    gone = compacted(operations, streams)
    held: dict[str, tuple[int, Any]] = {}
    found: dict[Change, Truth] = {}
    for revision, key in sorted(known):
        kind, value = known[revision, key]
        since, previous = held.get(key, (0, None))
        # The value of a key before the first revision of the witness is unknown.
        is_known = revision <= reached and (start <= 1 or since >= start)
        found[revision, key] = Truth(
            revision, key, kind, value, previous, is_known, revision <= gone
        )
        held[key] = revision, value
    return found


def _witness(streams: Sequence[Stream], last_acknowledged: int) -> Stream | None:
    """The watcher of everything that reached the end from the oldest revision with the fewest
    resumptions.
    """
    widest = min((each.wanted["prefix"] for each in streams), key=len, default="")
    whole = [
        each
        for each in streams
        if {"put", "delete"} <= set(each.wanted["kinds"]) and each.wanted["prefix"] == widest
    ]
    return max(
        whole,
        key=lambda each: (
            each.reached >= last_acknowledged,
            -each.start,
            each.reached,
            -len(each.operations),
        ),
        default=None,
    )

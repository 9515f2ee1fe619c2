"""What watchers were told, against what changed: the nine guarantees of a watch.

Ordered, unique, atomic per revision, reliable, resumable, bookmarkable, right previous value,
right creation flag, right filtering.

Expects operations of one workload with
- "watch": key the watcher's name, value {"prefix": str, "from": first revision wanted, "kinds":
  ["put", "delete"] or one of them}; told a list of batches in the order of their arrival. A batch
  is {"revision": r, "events": [...]}; without events it is a bookmark: all up to r was told. An
  event is {"revision", "kind": "put" or "delete", "key", "value", "previous": value or null,
  "created": bool}; "value" of a delete is null. Several operations of one name, in their order,
  are one watcher that resumed.
`log` is what really changed, each change once, in the order of revisions and complete from the
first one on, as dicts {"revision", "kind", "key", "value"}. Without it the union of what all
watchers were told is taken, from which a change that every watcher missed is missing too.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jepsen_lite.checkers.reading import answered, began_ns, told
from jepsen_lite.checkers.telling import finding, problem, unknown
from jepsen_lite.history import Operation
from jepsen_lite.verdicts import Finding, Problem

_NAME = "watch"
_Change = tuple[int, str]  # revision and key


@dataclass(frozen=True, slots=True)
class Truth:
    """A change, and what was there before it; `previous` None where nothing was."""

    revision: int
    key: str
    kind: str
    value: Any
    previous: Any
    previous_known: bool


def check(
    operations: Sequence[Operation], log: Iterable[Mapping[str, Any]] | None = None
) -> Finding:
    """Judge each watcher alone against the log."""
    streams: defaultdict[str, list[Operation]] = defaultdict(list)
    for each in sorted(answered(operations, "watch"), key=began_ns):
        streams[each.invocation.key].append(each)
    union = [event for of_name in streams.values() for event in _events(of_name)]
    truth = _truth(union if log is None else log, complete=log is not None)
    problems: list[Problem] = []
    for name, of_name in streams.items():
        problems += [problem(f"{name}: {text}", *of_name) for text in _judge(of_name, truth)]
    statistics = {"watchers": len(streams), "events": len(union), "changes": len(truth)}
    if not union:
        return unknown(_NAME, "no watcher was told anything", statistics)
    return finding(_NAME, problems, statistics)


def _events(operations: Iterable[Operation]) -> Iterator[dict[str, Any]]:
    for each in operations:
        for batch in told(each):
            yield from batch["events"]


def _truth(log: Iterable[Mapping[str, Any]], complete: bool) -> dict[_Change, Truth]:
    """By revision and key, in order, each change with the value that it replaced."""
    held: dict[str, Any] = {}
    truth: dict[_Change, Truth] = {}
    for each in sorted(log, key=lambda change: (change["revision"], change["key"])):
        revision, key = each["revision"], each["key"]
        if (revision, key) not in truth:
            truth[revision, key] = Truth(
                revision, key, each["kind"], each["value"], held.get(key), complete
            )
            held[key] = each["value"] if each["kind"] == "put" else None
    return truth


def _judge(operations: Sequence[Operation], truth: Mapping[_Change, Truth]) -> Iterator[str]:
    """All that is wrong with one watcher, each guarantee by its name."""
    batches = [batch for each in operations for batch in told(each)]
    events = [event for batch in batches for event in batch["events"]]
    yield from _out_of_order(events)
    yield from _torn(batches)
    yield from _missed(operations, truth)
    yield from _broken_bookmarks(batches)
    for event in events:
        yield from _untrue(event, truth)
        yield from _unwanted(event, operations[0].invocation.value)


def _out_of_order(events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    known: set[_Change] = set()
    for before, after in itertools.pairwise(events):
        if after["revision"] < before["revision"]:
            yield (
                f"ordered: revision {after['revision']} was told after revision"
                f" {before['revision']}"
            )
    for event in events:
        change = event["revision"], event["key"]
        if change in known:
            yield f"unique: {event['key']} at revision {event['revision']} was told twice"
        known.add(change)


def _torn(batches: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The changes of one revision come in one batch."""
    told_in: dict[int, int] = {}
    torn: set[int] = set()
    for number, batch in enumerate(batches):
        for event in batch["events"]:
            revision = event["revision"]
            if told_in.setdefault(revision, number) != number and revision not in torn:
                torn.add(revision)
                yield f"atomic: the changes of revision {revision} came in more than one batch"


def _missed(operations: Sequence[Operation], truth: Mapping[_Change, Truth]) -> Iterator[str]:
    """What should have been told by the last revision that was, from the first one wanted on.

    Of what is missing around the place where the watcher resumed, resuming is to blame.
    """
    shown = {(event["revision"], event["key"]) for event in _events(operations)}
    reached_by = [
        max((batch["revision"] for batch in told(each)), default=0) for each in operations
    ]
    reached, wanted = max(reached_by), operations[0].invocation.value
    resumed_behind = set(reached_by[:-1])
    last_shown = 0
    for change in truth.values():
        if not wanted["from"] <= change.revision <= reached or not _matches(change, wanted):
            continue
        if (change.revision, change.key) in shown:
            last_shown = change.revision
            continue
        gap = any(last_shown <= place < change.revision for place in resumed_behind)
        yield (
            f"{'resumable' if gap else 'reliable'}: the {change.kind} of {change.key} at revision"
            f" {change.revision} was never told, but {reached} was"
        )


def _matches(change: Truth, wanted: Mapping[str, Any]) -> bool:
    return change.key.startswith(wanted["prefix"]) and change.kind in wanted["kinds"]


def _broken_bookmarks(batches: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """After a bookmark nothing comes that it said had been told."""
    bookmark = 0
    for batch in batches:
        if not batch["events"]:
            bookmark = max(bookmark, batch["revision"])
        for event in batch["events"]:
            if event["revision"] <= bookmark:
                yield (
                    f"bookmarkable: {event['key']} at revision {event['revision']} was told after"
                    f" a bookmark at {bookmark}"
                )


def _untrue(event: Mapping[str, Any], truth: Mapping[_Change, Truth]) -> Iterator[str]:
    where = f"{event['key']} at revision {event['revision']}"
    change = truth.get((event["revision"], event["key"]))
    if change is None or (change.kind, change.value) != (event["kind"], event["value"]):
        yield f"reliable: the {event['kind']} of {where} was told and never happened so"
        return
    if not change.previous_known:
        return
    if event["previous"] != change.previous:
        yield (
            f"previous value: {where} was told to have been {event['previous']} before, where it"
            f" was {change.previous}"
        )
    if event["created"] != (change.kind == "put" and change.previous is None):
        yield f"creation flag: {where} was told with created={event['created']}"


def _unwanted(event: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    right_key = event["key"].startswith(wanted["prefix"])
    if event["revision"] < wanted["from"] or event["kind"] not in wanted["kinds"] or not right_key:
        yield (
            f"filtering: the {event['kind']} of {event['key']} at revision {event['revision']} was"
            " told to a watcher that did not ask for it"
        )

"""The nine guarantees of a watch: delivered events against the actual changes.

Ordered, unique, atomic per revision, reliable, resumable, bookmarkable, right previous value,
right creation flag, right filtering.

Expects operations of one workload with
- "watch": key the watcher's name, value {"prefix": str, of all the same, "from": first revision
  wanted, "kinds": ["put", "delete"] or one of them}, with "until" if it is over as soon as it
  has observed everything up to there, which is all that was acknowledged; returns a list of
  batches in the order of their arrival. A batch is {"revision": r, "events": [...]}; without
  events it is a bookmark: all up to r was delivered, or is gone if it is "compacted". An event is
  {"revision", "kind": "put" or "delete", "key", "value", "previous": value or null, "created":
  bool}; "value" of a delete is null. Several operations of one name, in their order, are one
  watcher that resumed.
- any other: returns {"revision", "changes": {key: value, or null if it was deleted}}.
What really changed is worked out in `checkers.watch_log`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jepsen_lite.checkers.watch_log import (
    Change,
    Stream,
    Truth,
    acknowledged,
    streams_of,
    truth,
)
from jepsen_lite.history import Operation, returned
from jepsen_lite.verdicts import Finding, Problem, finding, problem, unknown

_NAME = "watch"


def check(operations: Sequence[Operation]) -> Finding:
    """Judge each watcher alone against what changed, and whether the last ones observed all."""
    streams, certain = streams_of(operations), acknowledged(operations)
    changes = truth(operations, streams, certain)
    problems: list[Problem] = []
    for each in streams:
        problems += [
            problem(f"{each.name}: {text}", *each.operations) for text in _judge(each, changes)
        ]
    events = sum(len(each.events) for each in streams)
    statistics = {
        "watchers": len(streams),
        "events": events,
        "changes": len(changes),
        "acknowledged": len(certain),
        "previous_known": sum(each.previous_known for each in changes.values()),
    }
    last = max((revision for revision, _ in certain), default=0)
    reached = max((each.reached for each in streams), default=0)
    if reached < last:
        text = f"revision {last} was acknowledged, and no watcher observed more than {reached}"
        final = [each for each in operations if _is_final(each)]
        if not final and not problems:
            return unknown(_NAME, text, statistics)
        problems += [problem(f"reliable: {text}", *final)] if final else []
    if not events and not problems:
        return unknown(_NAME, "no watcher observed an event", statistics)
    return finding(_NAME, problems, statistics)


def _is_final(operation: Operation) -> bool:
    """Whether it was to observe all that was acknowledged, and came to an end."""
    is_watch = operation.invocation.function == "watch"
    return is_watch and "until" in operation.invocation.value and operation.completion is not None


def _judge(stream: Stream, changes: Mapping[Change, Truth]) -> Iterator[str]:
    """All that is wrong with one watcher, each guarantee by its name."""
    yield from _out_of_order(stream.events)
    yield from _torn(stream.batches)
    yield from _missed(stream, changes)
    yield from _broken_bookmarks(stream.batches)
    for event in stream.events:
        yield from _untrue(event, changes)
        yield from _unwanted(event, stream.wanted)


def _out_of_order(events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    known: set[Change] = set()
    for before, after in itertools.pairwise(events):
        if after["revision"] < before["revision"]:
            yield (
                f"ordered: revision {after['revision']} was delivered after revision"
                f" {before['revision']}"
            )
    for event in events:
        change = event["revision"], event["key"]
        if change in known:
            yield f"unique: {event['key']} at revision {event['revision']} was delivered twice"
        known.add(change)


def _torn(batches: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The changes of one revision come in one batch."""
    delivered_in: dict[int, int] = {}
    torn: set[int] = set()
    for number, batch in enumerate(batches):
        for event in batch["events"]:
            revision = event["revision"]
            if delivered_in.setdefault(revision, number) != number and revision not in torn:
                torn.add(revision)
                yield f"atomic: the changes of revision {revision} came in more than one batch"


def _missed(stream: Stream, changes: Mapping[Change, Truth]) -> Iterator[str]:
    """Changes from the first revision wanted to the last one delivered that were not delivered.

    A change that is missing next to a resumption counts against "resumable".
    """
    shown = {(event["revision"], event["key"]) for event in stream.events}
    resumed_behind = {
        max((batch["revision"] for batch in returned(each)), default=0)
        for each in stream.operations[:-1]
    }
    last_shown = 0
    for name, change in changes.items():
        if not stream.was_due(change):
            continue
        if name in shown:
            last_shown = change.revision
            continue
        gap = any(last_shown <= place < change.revision for place in resumed_behind)
        yield (
            f"{'resumable' if gap else 'reliable'}: the {change.kind} of {change.key} at revision"
            f" {change.revision} was never delivered, but {stream.reached} was"
        )


def _broken_bookmarks(batches: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """No event after a bookmark is at or below the bookmark's revision."""
    bookmark = 0
    for batch in batches:
        if not batch["events"]:
            bookmark = max(bookmark, batch["revision"])
        for event in batch["events"]:
            if event["revision"] <= bookmark:
                yield (
                    f"bookmarkable: {event['key']} at revision {event['revision']} was delivered"
                    f" after a bookmark at {bookmark}"
                )


def _untrue(event: Mapping[str, Any], changes: Mapping[Change, Truth]) -> Iterator[str]:
    where = f"{event['key']} at revision {event['revision']}"
    change = changes.get((event["revision"], event["key"]))
    if change is None or (change.kind, change.value) != (event["kind"], event["value"]):
        yield f"reliable: the {event['kind']} of {where} was delivered and never happened so"
        return
    if not change.previous_known:
        return
    is_gone = event["previous"] is None and change.previous_may_be_gone
    if event["previous"] != change.previous and not is_gone:
        yield (
            f"previous value: {where} was delivered with {event['previous']} before it,"
            f" where {change.previous} was"
        )
    if event["created"] != (change.kind == "put" and change.previous is None):
        yield f"creation flag: {where} was delivered with created={event['created']}"


def _unwanted(event: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    right_key = event["key"].startswith(wanted["prefix"])
    if event["revision"] < wanted["from"] or event["kind"] not in wanted["kinds"] or not right_key:
        yield (
            f"filtering: the {event['kind']} of {event['key']} at revision {event['revision']} was"
            " delivered to a watcher that did not ask for it"
        )

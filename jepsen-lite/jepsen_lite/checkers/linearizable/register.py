"""Registers must be linearizable: one per key, read, written and swapped.

Expects operations of one workload with
- "read": returns [value], or [value, version];
- "write": value the new value; returns anything, or its version;
- "cas": value [expected, new]; returns [swapped, value there now], or with its version behind it.
Values are best unique: then a value says which write a read saw, and a refusal is short.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jepsen_lite.checkers.linearizable import search, zones
from jepsen_lite.checkers.linearizable.counterexample import explained
from jepsen_lite.checkers.linearizable.processes import MapKeys
from jepsen_lite.checkers.linearizable.reduction import closed, reduced
from jepsen_lite.checkers.linearizable.register_model import VERSIONED_REGISTER, seen_by, written
from jepsen_lite.checkers.linearizable.search import NEVER, STEPS_MAX, Call, Model, SearchVerdict
from jepsen_lite.checkers.linearizable.unique_writes import blocks
from jepsen_lite.checkers.outcomes import Effects
from jepsen_lite.history import Kind, Operation, began_ns, returned
from jepsen_lite.verdicts import Finding, Problem, Validity, finding


def _asked(operation: Operation) -> tuple[str, Any]:
    return operation.invocation.function, operation.invocation.value


def _asked_for(operation: Operation) -> Any:
    return written(_asked(operation)) if operation.invocation.function in _FUNCTIONS else None


def _had_it(operation: Operation) -> bool:
    return operation.invocation.function == "write" or bool(returned(operation)[0])


def _revision_returned(operation: Operation) -> int | None:
    answer = returned(operation)
    revision: int = answer if operation.invocation.function == "write" else answer[-1]
    return revision


def _answer_of(operation: Operation, revision: int) -> Any:
    if operation.invocation.function == "write":
        return revision
    return [True, _asked_for(operation), revision]


_FUNCTIONS = ("read", "write", "cas")
EFFECTS = Effects(_asked_for, _had_it, _revision_returned, _answer_of)
"""Where values are unique and answers have versions that are revisions of the whole store."""


SEARCHED_MIN = 20_000
"""Fewer calls than so many are searched sooner than another process has begun."""


def check(
    operations: Iterable[Operation],
    versioned: bool = False,
    steps_max: int = STEPS_MAX,
    map_keys: MapKeys = map,
) -> Finding:
    """Judge each key alone; each refused key is one problem, its smallest counterexample.

    If much must be searched, `map_keys` judges the keys: `KeyProcesses.map` does so at once. The
    finding is the same.
    """
    by_key: defaultdict[str, list[Operation]] = defaultdict(list)
    for each in operations:
        if each.invocation.function in _FUNCTIONS:
            by_key[each.invocation.key].append(each)
    by_zones = {key: zones.judge(of_key, versioned) for key, of_key in by_key.items()}
    open_keys = [key for key, verdict in by_zones.items() if not verdict.legal]
    if len(open_keys) < 2 or sum(len(by_key[key]) for key in open_keys) < SEARCHED_MIN:
        map_keys = map
    searches = (
        _OpenKey(list(calls_of(by_key[key])), by_zones[key].suspects, versioned, steps_max)
        for key in open_keys
    )
    refused: list[Problem] = []
    given_up: list[Problem] = []
    verdicts = map_keys(_carry_out, searches)
    for key, (verdict, illegal) in zip(open_keys, verdicts, strict=True):
        if verdict is SearchVerdict.ILLEGAL:
            refused.append(explained(key, by_key[key], illegal))
        elif verdict is SearchVerdict.UNKNOWN:
            given_up.append(Problem(f"{key}: the search was given up: too many calls overlap"))
    statistics = {
        "keys": len(by_key),
        "operations": sum(map(len, by_key.values())),
        "given_up": len(given_up),
    }
    if given_up and not refused:
        return Finding("linearizability", Validity.UNKNOWN, tuple(given_up), statistics)
    return finding("linearizability", refused, statistics)


@dataclass(frozen=True, slots=True)
class _OpenKey:
    """What the zones of a key's calls have left open; `suspects` are names of calls."""

    calls: Sequence[Call]
    suspects: frozenset[int]
    versioned: bool
    steps_max: int


def _carry_out(asked: _OpenKey) -> tuple[SearchVerdict, Sequence[Call]]:
    """The verdict, and a few calls that are illegal by themselves if it is ILLEGAL."""
    model_of = _versioned_model if asked.versioned else blocks
    parts = [asked.calls]
    if asked.suspects:
        # What is illegal in a part is illegal in the whole; that a part is legal says nothing.
        suspects = [call for call in asked.calls if call.name in asked.suspects]
        parts.insert(0, closed(suspects, asked.calls))
    for part in parts:
        verdict = search.check(model_of(part), part, asked.steps_max).verdict
        if verdict is SearchVerdict.ILLEGAL:
            return verdict, reduced(model_of, part)
    return verdict, ()


def _versioned_model(calls: Sequence[Call]) -> Model:
    return VERSIONED_REGISTER


def calls_of(operations: Sequence[Operation]) -> Iterator[Call]:
    """What of the operations on one key decides. A call's name is its place among them.

    One that failed did not happen. A write of unknown outcome whose value was never seen may be
    left out: taking it out of an order that explains everything leaves such an order.
    """
    seen = _seen_in_the_end(operations)
    for name, each in enumerate(operations):
        request = (each.invocation.function, each.invocation.value)
        if each.kind is Kind.OK and each.completion is not None:
            answer = each.completion.value
            yield Call(began_ns(each), each.completion.time_ns, request, answer, name)
        elif each.kind is Kind.INFO and request[0] != "read" and written(request) in seen:
            yield Call(began_ns(each), NEVER, request, None, name)


def _seen_in_the_end(operations: Sequence[Operation]) -> set[Any]:
    """The values that were seen, or that a swap of unknown outcome must have seen."""
    seen: set[Any] = set()
    expected_by: defaultdict[Any, list[Any]] = defaultdict(list)
    for each in operations:
        request = (each.invocation.function, each.invocation.value)
        if each.kind is Kind.OK:
            seen.update(seen_by(request, returned(each)))
        elif each.kind is Kind.INFO and request[0] == "cas":
            expected_by[request[1][1]].append(request[1][0])
    # A swap whose value was seen took effect, so it has seen what it expected.
    new = list(seen)
    while new:
        for expected in expected_by.get(new.pop(), ()):
            if expected not in seen:
                seen.add(expected)
                new.append(expected)
    return seen

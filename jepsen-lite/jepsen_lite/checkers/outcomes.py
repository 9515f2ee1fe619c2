"""Unknown outcomes, settled by what the run read of the committed history in the end.

Expects, besides the operations of a workload, for each of their keys
- "history": returns {"versions": [[name, version, effect, revision], ...]}, all that was ever put
  to the store under that key, or {"missing": why this is not to be had}.
A history is used only if its version numbers prove it complete and it agrees with the answers to
callers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jepsen_lite.checkers.resolve import Committed, resolved
from jepsen_lite.history import Kind, Operation, answered, before, began_ns, ended_ns, returned
from jepsen_lite.verdicts import Finding, Problem, at, finding, listed, problem, who

_NAME = "outcomes"
HISTORY = "history"


@dataclass(frozen=True, slots=True)
class Effects:
    """How the operations of a workload are read.

    `asked_for` is the effect that no other operation on this key asks for, None of a read; `had_it`
    is whether an operation that succeeded took effect, as a swap may not; `revision_returned` is
    any revision that the store had reached by the end of one that succeeded; `answer_of` is the
    answer that the caller would have got, given the effect's revision.
    """

    asked_for: Callable[[Operation], Hashable | None]
    had_it: Callable[[Operation], bool]
    revision_returned: Callable[[Operation], int | None]
    answer_of: Callable[[Operation, int], Any]


def settled(operations: Sequence[Operation], effects: Effects) -> tuple[list[Operation], Finding]:
    """The operations as the checkers are to see them, and what became of the unknown outcomes.

    INVALID if the committed history contradicts the answers to callers; nothing is settled then.
    """
    asked = [each for each in operations if each.invocation.function != HISTORY]
    histories = [_KeyHistory(each) for each in answered(operations, HISTORY)]
    complete = {each.key: each for each in histories if not each.missing}
    problems = [
        *(text for each in complete.values() for text in each.gaps()),
        *_contradictions(asked, complete, effects),
    ]
    known = asked if problems or not complete else _settled(asked, complete, effects)
    statistics: dict[str, Any] = _counted(asked, known, effects)
    if statistics["stayed_unknown"]:
        missing = {each.missing for each in histories if each.key not in complete}
        statistics["because"] = _why(problems, missing, bool(complete))
    return known, finding(_NAME, problems, statistics)


class _KeyHistory:
    """All that was put under one key, as one operation read it."""

    def __init__(self, read: Operation) -> None:
        self.read = read
        self.key = read.invocation.key
        self.missing: str = returned(read).get("missing", "")
        self._versions: list[tuple[str, int, Any, int]] = [
            (name, version, effect, revision)
            for name, version, effect, revision in returned(read).get("versions", ())
        ]
        self.revisions_of: defaultdict[Any, list[int]] = defaultdict(list)
        for _, _, effect, revision in self._versions:
            self.revisions_of[effect].append(revision)

    def gaps(self) -> Iterator[Problem]:
        """The store counts the puts of a name: one that is not there has been lost."""
        by_name: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for name, version, _, revision in self._versions:
            by_name[name].append((version, revision))
        for name, found in by_name.items():
            found.sort()
            numbers = [version for version, _ in found]
            if numbers != list(range(1, len(found) + 1)):
                text = f"{name}: its history holds the versions {listed(numbers)}, which lacks some"
                yield problem(f"{text} of 1 to {numbers[-1]}", self.read)
            revisions = [revision for _, revision in found]
            if revisions != sorted(set(revisions)):
                yield problem(f"{name}: a later version is of an earlier revision", self.read)


def _contradictions(
    operations: Sequence[Operation], complete: Mapping[str, _KeyHistory], effects: Effects
) -> Iterator[Problem]:
    """Where the committed history contradicts the answers to callers."""
    wanted: defaultdict[str, set[Any]] = defaultdict(set)
    for each in operations:
        history, effect = complete.get(each.invocation.key), effects.asked_for(each)
        if history is None or effect is None:
            continue
        wanted[each.invocation.key].add(effect)
        revisions = history.revisions_of.get(effect, [])
        yield from _contradiction(each, effect, revisions, history.read, effects)
    for key, history in complete.items():
        for effect, revisions in history.revisions_of.items():
            if effect not in wanted[key]:
                revision = revisions[0]
                text = (
                    f"{key}: {effect} is committed at revision {revision}, but was never requested"
                )
                yield problem(text, history.read)


def _contradiction(
    operation: Operation, effect: Any, revisions: list[int], read: Operation, effects: Effects
) -> Iterator[Problem]:
    begins = f"{operation.invocation.key}: {who(operation)}'s {operation.invocation.function}"
    if len(revisions) > 1:
        times = f"took effect {len(revisions)} times, at the revisions {listed(revisions)}"
        yield problem(f"{begins} of {effect} {times}", operation, read)
    succeeded = operation.kind is Kind.OK
    if succeeded and effects.had_it(operation):
        if not revisions and before(operation, read):
            knew = f"was acknowledged {at(ended_ns(operation))}"
            text = f"{begins} of {effect} {knew}, but the committed history lacks it"
            yield problem(text, operation, read)
        revision = effects.revision_returned(operation)
        if revisions and revision not in (None, *revisions):
            text = f"{begins} of {effect} observed revision {revision}, but it is committed at"
            yield problem(f"{text} {revisions[0]}", operation, read)
    elif revisions and (succeeded or operation.kind is Kind.FAIL):
        text = f"{begins} of {effect}, begun {at(began_ns(operation))}, observed that it had not"
        yield problem(f"{text} happened, but it is committed at {revisions[0]}", operation, read)


def _settled(
    operations: Sequence[Operation], complete: Mapping[str, _KeyHistory], effects: Effects
) -> list[Operation]:
    def effect_of(operation: Operation) -> Hashable | None:
        key, effect = operation.invocation.key, effects.asked_for(operation)
        return None if effect is None or key not in complete else (key, effect)

    reads = [each.read for each in complete.values()]
    committed = Committed(
        {
            (key, effect): revision
            for key, history in complete.items()
            for effect, (revision,) in history.revisions_of.items()
        },
        min(map(began_ns, reads)),
        int(max(map(ended_ns, reads))),
    )
    return resolved(operations, committed, effect_of, effects.revision_returned, effects.answer_of)


def _counted(
    asked: Sequence[Operation], known: Sequence[Operation], effects: Effects
) -> dict[str, int]:
    became = Counter(
        after.kind
        for each, after in zip(asked, known, strict=True)
        if each.kind is Kind.INFO and effects.asked_for(each) is not None
    )
    return {
        "unknown": became.total(),
        "happened": became[Kind.OK],
        "did_not_happen": became[Kind.FAIL],
        "stayed_unknown": became[Kind.INFO],
    }


def _why(problems: Sequence[Problem], missing: set[str], some: bool) -> str:
    """Why outcomes stayed unknown."""
    if problems:
        return "the committed history contradicts the answers to callers"
    if missing:
        return f"the committed history could not be read whole: {listed(sorted(missing), 1)}"
    if some:
        return "they may still have happened after the committed history was read"
    return "the run did not read the committed history"

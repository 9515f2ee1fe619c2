"""A growing set: what was added and acknowledged is in every later read, and nothing else is.

Expects operations of one workload with
- "add": value the element, each added once; returns anything, or its revision;
- "read": returns the list of all elements.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from jepsen_lite.checkers.outcomes import Effects
from jepsen_lite.history import Kind, Operation, answered, began_ns, ended_ns, returned, was_settled
from jepsen_lite.verdicts import Finding, Problem, at, finding, problem, unknown, who

_NAME = "set"


def _asked_for(operation: Operation) -> Any:
    return operation.invocation.value if operation.invocation.function == "add" else None


def _revision_returned(operation: Operation) -> int | None:
    answer: int = returned(operation)
    return answer if operation.invocation.function == "add" else None


EFFECTS = Effects(
    asked_for=_asked_for,
    had_it=lambda operation: True,
    revision_returned=_revision_returned,
    answer_of=lambda operation, revision: revision,
)
"""Where adds return their revisions."""


def check(operations: Sequence[Operation]) -> Finding:
    """Elements that are lost (also from the last read), stale (only from some reads), vanished
    (read before, and then not), never added, or shown though adding them failed.
    """
    adds = {each.invocation.value: each for each in operations if each.invocation.function == "add"}
    reads = sorted(answered(operations, "read"), key=began_ns)
    outcomes = [each.kind for each in adds.values()]
    statistics = {
        "adds": len(adds),
        "acknowledged": outcomes.count(Kind.OK),
        "reads": len(reads),
    }
    if not reads:
        return unknown(_NAME, "the set was never read", statistics)
    last = set(returned(reads[-1]))
    statistics["unknown_present"] = sum(
        each.kind is Kind.INFO and value in last for value, each in adds.items()
    )
    return finding(_NAME, _lacking(adds, reads) + _invented(adds, reads), statistics)


def _lacking(adds: dict[Any, Operation], reads: Sequence[Operation]) -> list[Problem]:
    """Elements that a read lacks, though it began after they were known to be there."""
    known = sorted(_known_from(adds, reads).items(), key=lambda item: ended_ns(item[1]))
    ends = [ended_ns(proof) for _, proof in known]
    shown = [set(returned(read)) for read in reads]
    lacking: dict[Any, int] = {}
    for number, read in enumerate(reads):
        for element, _ in known[: bisect_left(ends, began_ns(read))]:
            if element not in shown[number]:
                lacking.setdefault(element, number)
    proofs = dict(known)
    problems: list[Problem] = []
    for element, number in lacking.items():
        read, proof = reads[number], proofs[element]
        word = "stale" if element in shown[-1] else "lost"
        if proof.invocation.function == "read":
            word, knew = "vanished", f"{who(proof)} had read {element} {at(ended_ns(proof))}"
        elif was_settled(proof):
            since = f"committed, as a later revision was known {at(ended_ns(proof))}"
            knew = f"{who(proof)} added {element}, which was {since}"
        else:
            knew = f"{who(proof)} added {element}, acknowledged {at(ended_ns(proof))}"
        text = f"{word}: {knew}; {who(read)}'s read that began {at(began_ns(read))} lacks it"
        problems.append(problem(text, proof, read))
    return problems


def _known_from(adds: dict[Any, Operation], reads: Sequence[Operation]) -> dict[Any, Operation]:
    """The first proof that an element is there: its acknowledged add, or a read of it."""
    known = {value: each for value, each in adds.items() if each.kind is Kind.OK}
    for read in sorted(reads, key=ended_ns):
        for element in returned(read):
            if element not in known or ended_ns(read) < ended_ns(known[element]):
                known[element] = read
    return known


def _invented(adds: dict[Any, Operation], reads: Sequence[Operation]) -> list[Problem]:
    problems: list[Problem] = []
    known: set[Any] = set()
    for read in reads:
        elements = returned(read)
        if len(elements) != len(set(elements)):
            problems.append(problem(f"{who(read)}'s read shows an element more than once", read))
        for element in elements:
            add = adds.get(element)
            if element in known:
                continue
            if add is None:
                text = f"never added: {who(read)} read {element}, which was never added"
                problems.append(problem(text, read))
            elif was_settled(add) and add.kind is Kind.FAIL:
                text = (
                    f"failed: {who(read)} read {element}, which {who(add)} asked for, but which"
                    " was never committed"
                )
                problems.append(problem(text, add, read))
            elif add.kind is Kind.FAIL:
                text = (
                    f"failed: {who(read)} read {element}, though {who(add)} had observed that"
                    " adding it failed"
                )
                problems.append(problem(text, add, read))
            elif began_ns(add) > ended_ns(read):
                text = f"never added: {who(read)} read {element} before {who(add)} added it"
                problems.append(problem(text, read, add))
            known.add(element)
    return problems

"""Ranges of keys: read and deleted at one revision, or page by page.

Elements are numbers, and each is put once. Expects operations of one workload with
- "fill": value [first, end], all elements from first to before end, in one revision; returns it;
- "delete": value [first, end, limit], limit 0: none; returns [revision, elements, more];
- "delete-pages": value [first, end, page_keys]; returns {"pages": [[revision, count], ...],
  "whole": whether it has come to the end of the range};
- "read": value [first, end, revision, page_keys], revision 0: the state of now; returns [revision,
  [[element, mod_revision], ...]].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jepsen_lite.history import NEVER_NS, Kind, Operation, answered, began_ns, ended_ns, returned
from jepsen_lite.verdicts import Finding, Problem, at, finding, listed, problem, unknown, who

_NAME = "ranges"
NEVER = NEVER_NS


@dataclass(slots=True)
class _Element:
    """Between which revisions an element was there, as far as that is known.

    `put` None: its fill has an unknown outcome and no read shows it. `may_be_gone_ns` is the
    beginning of the first deletion that may have taken it unnoticed, `surely_gone` the revision by
    which a deletion of the whole range must have taken it.
    """

    fill: Operation
    put: int | None
    gone: float = NEVER
    may_be_gone_ns: float = NEVER
    may_be_gone: float = NEVER
    surely_gone: float = NEVER

    def is_there(self, revision: int, moment_ns: float) -> bool | None:
        """Whether it is there at a revision that is read at a moment; None: it is not known."""
        if self.put is not None and self.put > revision:
            return False
        if revision >= min(self.gone, self.surely_gone):
            return False
        if self.put is None or revision >= self.may_be_gone or moment_ns > self.may_be_gone_ns:
            return None
        return True


def check(operations: Sequence[Operation]) -> Finding:
    """Judge every read and every deletion by what must be there at its revision."""
    reads = list(answered(operations, "read"))
    deletions = list(answered(operations, "delete"))
    statistics: dict[str, Any] = {
        "reads": len(reads),
        "longest": max((len(returned(each)[1]) for each in reads), default=0),
        "deletions": len(deletions),
        "deleted": sum(len(returned(each)[1]) for each in deletions),
    }
    if not reads:
        return unknown(_NAME, "no range was read", statistics)
    elements = _elements(operations, reads)
    problems = list(_deleted(deletions, elements))
    _note_unseen(operations, elements)
    for each in reads:
        shown = [element for element, _ in returned(each)[1]]
        first, end, _, _ = each.invocation.value
        problems += _judge(each, returned(each)[0], range(first, end), shown, elements)
        for element, mod_revision in returned(each)[1]:
            known = elements.get(element)
            if known is not None and known.put not in (None, mod_revision):
                text = f"{who(each)} read {element} of revision {mod_revision}"
                problems.append(problem(f"{text}, which was put at {known.put}", known.fill, each))
    for each in deletions:
        revision, taken, more = returned(each)
        first, end, limit = each.invocation.value
        if not taken:
            revision += 1  # nothing changed: the state is that of the revision itself
        reached = end if not limit or len(taken) < limit else taken[-1] + 1
        problems += _judge(each, revision - 1, range(first, reached), taken, elements)
        left = [elements[number] for number in range(reached, end) if number in elements]
        there = [element.is_there(revision - 1, ended_ns(each)) for element in left]
        if (True in there and not more) or (more and not any(one is not False for one in there)):
            text = f"{who(each)}'s deletion {at(began_ns(each))} returned more={more} wrongly"
            problems.append(problem(text, each))
    for each in answered(operations, "delete-pages"):
        if any(count > each.invocation.value[2] for _, count in returned(each)["pages"]):
            problems.append(problem(f"{who(each)} deleted more than a page at once", each))
    return finding(_NAME, problems, statistics)


def _elements(operations: Sequence[Operation], reads: Sequence[Operation]) -> dict[int, _Element]:
    found: dict[int, _Element] = {}
    for each in operations:
        if each.invocation.function == "fill" and each.kind is not Kind.FAIL:
            put = returned(each) if each.kind is Kind.OK else None
            for element in range(*each.invocation.value):
                found[element] = _Element(each, put)
    for read in reads:
        for element, mod_revision in returned(read)[1]:
            known = found.get(element)
            if known is not None and known.put is None:
                # A fill is one revision: what is known of one element is known of all.
                for other in range(*known.fill.invocation.value):
                    found[other].put = mod_revision
    return found


def _deleted(deletions: Sequence[Operation], elements: dict[int, _Element]) -> Iterator[Problem]:
    """Note which deletion took each element."""
    by: dict[int, Operation] = {}
    for each in deletions:
        revision, taken, _ = returned(each)
        for number in taken:
            if number in by:
                text = f"{who(by[number])} and {who(each)} both deleted {number}"
                yield problem(text, by[number], each)
            by[number] = each
            if number in elements:
                elements[number].gone = revision


def _note_unseen(operations: Sequence[Operation], elements: dict[int, _Element]) -> None:
    """Note what deletions may have taken that do not say which elements they took."""
    for each in operations:
        function = each.invocation.function
        in_pages = function == "delete-pages" and each.kind is not Kind.FAIL
        if not in_pages and not (function == "delete" and each.kind is Kind.INFO):
            continue
        first, end, _ = each.invocation.value
        pages = returned(each)["pages"] if in_pages and each.kind is Kind.OK else []
        for number in range(first, end):
            element = elements.get(number)
            if element is None:
                continue
            if each.kind is not Kind.OK or not returned(each)["whole"]:
                element.may_be_gone_ns = min(element.may_be_gone_ns, began_ns(each))
            elif pages:
                element.may_be_gone = min(element.may_be_gone, pages[0][0])
                if element.put is not None and element.put < pages[0][0]:
                    element.surely_gone = min(element.surely_gone, pages[-1][0])


def _judge(
    operation: Operation,
    revision: int,
    inside: range,
    shown: Sequence[int],
    elements: dict[int, _Element],
) -> Iterator[Problem]:
    """What was shown, or taken, must be what was there."""
    what = f"{who(operation)}'s {operation.invocation.function} {at(began_ns(operation))}"
    where = f"{what} of {inside.start} to {inside.stop} at revision {revision}"
    if list(shown) != sorted(set(shown)):
        yield problem(f"{where} is not in order", operation)
    foreign = [number for number in shown if number not in inside or number not in elements]
    if foreign:
        yield problem(f"{where} has {listed(foreign)}, which are not to be there", operation)
    moment_ns = ended_ns(operation)
    here = {number: elements[number] for number in inside if number in elements}
    there = {number: each.is_there(revision, moment_ns) for number, each in here.items()}
    lacks = [number for number, is_there in there.items() if is_there and number not in shown]
    if lacks:
        yield problem(f"{where} lacks {listed(lacks)}", operation, elements[lacks[0]].fill)
    ghosts = [number for number in shown if there.get(number) is False]
    if ghosts:
        text = f"{where} has {listed(ghosts)}, which were deleted before, or put later"
        yield problem(text, operation, elements[ghosts[0]].fill)

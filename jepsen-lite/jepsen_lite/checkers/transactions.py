"""Transactions of several keys, on a model of the store, in the order of their revisions.

Expects operations of one workload with
- "txn": key its own name, value a transaction of `clients.commands`, which puts that name as a key
  of the log in either branch; returns [revision, answer];
- "read": value [start, end, revision, page_keys], revision 0: the state of now; returns [revision,
  rows];
- "log" (after everything is healed): returns [name, revision] of each transaction that took effect.
Values are symbols; see `checkers.key_model`.

As each transaction puts a key of its own, the log says of each one whether and at which revision it
took effect, also where its outcome was unknown. So the model is given exactly those that did. Each
must come at a revision of its own, in an order that real time allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jepsen_lite.checkers.key_model import KeyModel, difference
from jepsen_lite.history import Kind, Operation, answered, before, began_ns, ended_ns, returned
from jepsen_lite.verdicts import Finding, Problem, at, finding, problem, unknown, who

_NAME = "transactions"


def check(operations: Sequence[Operation]) -> Finding:
    """Judge every answer by the model, and the order of revisions by real time."""
    transactions = {
        each.invocation.key: each for each in operations if each.invocation.function == "txn"
    }
    logs = list(answered(operations, "log"))
    statistics: dict[str, object] = {
        "transactions": len(transactions),
        "acknowledged": sum(1 for _ in answered(operations, "txn")),
        "reads": sum(1 for _ in answered(operations, "read")),
    }
    if not logs:
        return unknown(_NAME, "the log of transactions was never read", statistics)
    log = logs[-1]
    known: dict[str, int] = dict(map(tuple, returned(log)))
    problems = list(_misreported(transactions, known, log))
    known |= {
        name: returned(each)[0] for name, each in transactions.items() if each.kind is Kind.OK
    }
    placed = [(known[name], each) for name, each in transactions.items() if name in known]
    placed.sort(key=lambda step: step[0])
    statistics["took_effect"] = len(placed)
    if not placed and not problems:
        return unknown(_NAME, "no transaction took effect", statistics)
    reads = sorted(answered(operations, "read"), key=lambda read: int(returned(read)[0]))
    problems += _by_the_model(placed, reads)
    current = [(returned(read)[0], read) for read in reads if not read.invocation.value[2]]
    problems += _gone_back([*placed, *current])
    return finding(_NAME, problems, statistics)


def _misreported(
    transactions: dict[str, Operation], logged: dict[str, int], log: Operation
) -> Iterator[Problem]:
    for name in logged.keys() - transactions.keys():
        yield problem(f"{name} took effect, but was never requested", log)
    for name, each in transactions.items():
        revision = logged.get(name)
        if each.kind is Kind.FAIL and revision is not None:
            yield problem(f"{name} took effect, but {who(each)} observed that it failed", each, log)
        if each.kind is not Kind.OK or not before(each, log):
            continue
        if revision is None:
            text = f"{name} was acknowledged to {who(each)} {at(ended_ns(each))} and is lost"
            yield problem(text, each, log)
        elif revision != returned(each)[0]:
            text = f"{name} took effect at revision {revision}, but {who(each)} observed"
            yield problem(f"{text} {returned(each)[0]}", each, log)


def _by_the_model(
    placed: Sequence[tuple[int, Operation]], reads: Sequence[Operation]
) -> Iterator[Problem]:
    """Every answer must be that of the model, which takes the revisions in their order."""
    model, last, due = KeyModel(), 0, iter(placed)
    step = next(due, None)
    for read in (*reads, None):
        revision = None if read is None else returned(read)[0]
        while step is not None and (revision is None or step[0] <= revision):
            reached, each = step
            if reached == last:
                yield problem(f"two transactions took effect at revision {reached}", each)
            last, expected = reached, model.apply(each.invocation.value, reached)
            if each.kind is Kind.OK and (wrong := difference(expected, returned(each)[1])):
                text = f"{who(each)}'s {each.invocation.key} at revision {reached} returned {wrong}"
                yield problem(text, each)
            step = next(due, None)
        if read is not None:
            start, end, _, page_keys = read.invocation.value
            if wrong := difference(model.range(start, end)[0], returned(read)[1]):
                pages = f" in pages of {page_keys}" if page_keys else ""
                text = f"{who(read)}'s read{pages} {at(began_ns(read))} of revision {revision}"
                yield problem(f"{text} shows {wrong}", read)


def _gone_back(placed: Sequence[tuple[int, Operation]]) -> list[Problem]:
    """What began after another one was over has no lower revision, and a transaction a higher one.

    A transaction of unknown outcome has no end.
    """
    by_end = sorted(placed, key=lambda step: ended_ns(step[1]))
    over, highest = 0, None
    problems: list[Problem] = []
    for revision, each in sorted(placed, key=lambda step: began_ns(step[1])):
        while before(by_end[over][1], each):
            if highest is None or by_end[over][0] > highest[0]:
                highest = by_end[over]
            over += 1
        is_write = each.invocation.function == "txn"
        if highest is not None and revision < highest[0] + is_write:
            text = (
                f"{who(each)}'s {each.invocation.function} that began {at(began_ns(each))} is at"
                f" revision {revision}, after {who(highest[1])}'s {highest[1].invocation.function}"
                f" at revision {highest[0]} was over"
            )
            problems.append(problem(text, highest[1], each))
    return problems

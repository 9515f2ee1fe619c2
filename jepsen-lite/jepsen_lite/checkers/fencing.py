"""A resource that is fenced accepts no token lower than one that it has accepted.

Expects operations of one workload, the key being the resource:
- "write": value [token, element], each element written once; OK means accepted, FAIL refused;
- "read": returns the accepted writes in their order, each as [token, element].
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence

from jepsen_lite.history import Kind, Operation, answered, before, began_ns, ended_ns, returned
from jepsen_lite.verdicts import Finding, Problem, at, finding, problem, unknown, who

_NAME = "fencing"


def check(operations: Sequence[Operation]) -> Finding:
    """Judge by the answers to writers, and by the order in which readers see accepted writes."""
    by_key: defaultdict[str, list[Operation]] = defaultdict(list)
    for each in operations:
        if each.invocation.function in ("write", "read"):
            by_key[each.invocation.key].append(each)
    problems: list[Problem] = []
    accepted = refused = 0
    for name, of_key in by_key.items():
        writes = list(answered(of_key, "write"))
        accepted += len(writes)
        refused += sum(
            each.kind is Kind.FAIL and each.invocation.function == "write" for each in of_key
        )
        problems += _accepted_late(name, writes)
        for read in answered(of_key, "read"):
            problems += _judge_read(name, of_key, read)
    statistics = {"accepted": accepted, "refused": refused}
    if not accepted:
        return unknown(_NAME, "no fenced write was ever accepted", statistics)
    return finding(_NAME, problems, statistics)


def _accepted_late(name: str, writes: Sequence[Operation]) -> list[Problem]:
    """A write that began after one with a higher token had been accepted must be refused."""
    problems: list[Problem] = []
    ended = iter(sorted(writes, key=ended_ns))
    earlier = next(ended, None)
    highest: Operation | None = None
    for write in sorted(writes, key=began_ns):
        while earlier is not None and before(earlier, write):
            if highest is None or _token(earlier) > _token(highest):
                highest = earlier
            earlier = next(ended, None)
        if highest is not None and _token(highest) > _token(write):
            text = (
                f"{name}: {who(write)}'s write with token {_token(write)} that began"
                f" {at(began_ns(write))} was accepted, although {who(highest)}'s with token"
                f" {_token(highest)} had been accepted {at(ended_ns(highest))}"
            )
            problems.append(problem(text, highest, write))
    return problems


def _judge_read(name: str, operations: Sequence[Operation], read: Operation) -> list[Problem]:
    writes = {
        each.invocation.value[1]: each for each in operations if each.invocation.function == "write"
    }
    shown = [(token, element) for token, element in returned(read)]
    problems: list[Problem] = []
    for (token, element), (later, after) in itertools.pairwise(shown):
        if later < token:
            involved = [writes[each] for each in (element, after) if each in writes]
            text = (
                f"{name}: {after} with token {later} was accepted after {element} with token"
                f" {token}, as {who(read)} read {at(began_ns(read))}"
            )
            problems.append(problem(text, *involved, read))
    elements = {element for _, element in shown}
    for element, write in writes.items():
        if write.kind is Kind.FAIL and element in elements:
            text = (
                f"{name}: {who(write)} observed that {element} was refused, and {who(read)} read it"
            )
            problems.append(problem(text, write, read))
        elif write.kind is Kind.OK and before(write, read) and element not in elements:
            text = (
                f"{name}: {element}, accepted from {who(write)}, is missing in {who(read)}'s read"
            )
            problems.append(problem(text, write, read))
    return problems


def _token(write: Operation) -> int:
    token: int = write.invocation.value[0]
    return token

"""A bounded read is never older than its bound, and no read shows what was never written.

Expects operations of one workload with
- "write": value unique within its key; returns its revision;
- "read": value the bound in ns, or null for a read that may be of any age; returns [value, revision
  of the write that it saw], or [null, 0] of a key never written.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from jepsen_lite.history import Kind, Operation, answered, began_ns, ended_ns, returned
from jepsen_lite.verdicts import Finding, Problem, at, finding, problem, unknown, who

_NAME = "staleness"


def check(operations: Sequence[Operation], drift: float = 0.0) -> Finding:
    """What overwrote the value that a read saw was acknowledged within the bound before it.

    `drift` is by what share the clock of the node that answers may run slower than this one.
    """
    by_key: defaultdict[str, list[Operation]] = defaultdict(list)
    for each in operations:
        if each.invocation.function in ("write", "read"):
            by_key[each.invocation.key].append(each)
    problems: list[Problem] = []
    bounded = 0
    for key, of_key in by_key.items():
        newest = _Newest(list(answered(of_key, "write")))
        writes = {
            each.invocation.value: each for each in of_key if each.invocation.function == "write"
        }
        for read in answered(of_key, "read"):
            bounded += read.invocation.value is not None
            problems += _too_old(key, read, newest, drift) + _invented(key, read, writes)
    statistics = {"keys": len(by_key), "bounded_reads": bounded}
    if not any(True for _ in answered(operations, "read")):
        return unknown(_NAME, "nothing was ever read", statistics)
    return finding(_NAME, problems, statistics)


class _Newest:
    """The write with the highest revision among those acknowledged before a moment."""

    def __init__(self, writes: Sequence[Operation]) -> None:
        ordered = sorted(writes, key=ended_ns)
        self._ends = [ended_ns(each) for each in ordered]
        self._newest: list[Operation] = []
        for each in ordered:
            newer = not self._newest or returned(each) > returned(self._newest[-1])
            self._newest.append(each if newer else self._newest[-1])

    def before(self, moment_ns: float) -> Operation | None:
        count = bisect_left(self._ends, moment_ns)
        return self._newest[count - 1] if count else None


def _too_old(key: str, read: Operation, newest: _Newest, drift: float) -> list[Problem]:
    bound_ns = read.invocation.value
    if bound_ns is None:
        return []
    value, revision = returned(read)
    write = newest.before(began_ns(read) - bound_ns * (1 + drift))
    if write is None or returned(write) <= revision:
        return []
    age_ms = (began_ns(read) - ended_ns(write)) / 1e6
    text = (
        f"{key}: {who(read)} read {value} of revision {revision} {at(began_ns(read))}, though"
        f" {write.invocation.value} of revision {returned(write)} had been acknowledged"
        f" {age_ms:.3f} ms before, more than the bound of {bound_ns / 1e6:.3f} ms"
    )
    return [problem(text, write, read)]


def _invented(key: str, read: Operation, writes: dict[Any, Operation]) -> list[Problem]:
    value, revision = returned(read)
    begins = f"{key}: {who(read)} read {value} {at(began_ns(read))}"
    if value is None:
        return []
    if value not in writes:
        return [problem(f"{begins}, which was never written", read)]
    write = writes[value]
    if write.kind is Kind.FAIL:
        return [problem(f"{begins}, though {who(write)} observed that it failed", write, read)]
    if began_ns(write) > ended_ns(read):
        return [problem(f"{begins}, before {who(write)} began to write it", read, write)]
    if write.kind is Kind.OK and returned(write) != revision:
        text = f"{begins} with revision {revision}, where {who(write)} observed {returned(write)}"
        return [problem(text, write, read)]
    return []

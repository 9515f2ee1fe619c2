"""A session sees its own writes, never goes back, and writes in its order; told by revisions.

Expects operations of one workload with
- "write": told its revision;
- "read": told [value, revision], the revision of the whole store that the answer shows.
A process is a session unless `session_of` says otherwise; it does one operation at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

from jepsen_lite.checkers.reading import answered, began_ns, told
from jepsen_lite.checkers.telling import at, finding, problem, unknown, who
from jepsen_lite.history import Operation
from jepsen_lite.verdicts import Finding, Problem

_NAME = "session"


def _process(operation: Operation) -> Hashable:
    return operation.invocation.process


def check(
    operations: Sequence[Operation], session_of: Callable[[Operation], Hashable] = _process
) -> Finding:
    """Read your writes, monotonic reads and monotonic writes, for each session."""
    sessions: defaultdict[Hashable, list[Operation]] = defaultdict(list)
    for each in answered(operations, "write", "read"):
        sessions[session_of(each)].append(each)
    problems: list[Problem] = []
    for of_session in sessions.values():
        problems += _judge(sorted(of_session, key=began_ns))
    reads = sum(each.invocation.function == "read" for each in operations)
    statistics = {"sessions": len(sessions), "reads": reads}
    if not sessions:
        return unknown(_NAME, "no session did anything", statistics)
    return finding(_NAME, problems, statistics)


def _judge(operations: Sequence[Operation]) -> list[Problem]:
    """Each operation against the newest write and the newest read before it."""
    problems: list[Problem] = []
    write: Operation | None = None
    read: Operation | None = None
    for each in operations:
        if each.invocation.function == "write":
            if write is not None and _revision(each) <= _revision(write):
                problems.append(_goes_back("monotonic writes", "wrote", write, each))
            else:
                write = each
            continue
        if write is not None and _revision(each) < _revision(write):
            problems.append(_goes_back("read your writes", "wrote", write, each))
        if read is not None and _revision(each) < _revision(read):
            problems.append(_goes_back("monotonic reads", "read", read, each))
        else:
            read = each
    return problems


def _goes_back(guarantee: str, did: str, earlier: Operation, later: Operation) -> Problem:
    text = (
        f"{guarantee}: {who(later)}'s {later.invocation.function} that began {at(began_ns(later))}"
        f" is at revision {_revision(later)}, after it {did} at revision {_revision(earlier)}"
    )
    return problem(text, earlier, later)


def _revision(operation: Operation) -> int:
    answer = told(operation)
    revision: int = answer if operation.invocation.function == "write" else answer[1]
    return revision

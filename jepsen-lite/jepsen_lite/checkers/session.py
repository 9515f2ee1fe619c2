"""A session sees its own writes, never goes back, and writes in its order, as revisions prove.

A revision that is only claimed proves nothing: the value shown must be what the key was then.

Expects operations of one workload with
- "write": value unique within its key; returns its revision;
- "read": returns [value, revision], the revision of the whole store that the answer shows; the
  value null of a key never written.
A process is a session unless `session_of` says otherwise; it does one operation at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from jepsen_lite.history import Operation, answered, asked, began_ns, returned
from jepsen_lite.verdicts import Finding, Problem, at, finding, problem, unknown, who

_NAME = "session"


def _process(operation: Operation) -> Hashable:
    return operation.invocation.process


def check(
    operations: Sequence[Operation], session_of: Callable[[Operation], Hashable] = _process
) -> Finding:
    """Read your writes, monotonic reads and monotonic writes, for each session; right values."""
    sessions: defaultdict[Hashable, list[Operation]] = defaultdict(list)
    for each in answered(operations, "write", "read"):
        sessions[session_of(each)].append(each)
    problems: list[Problem] = []
    for of_session in sessions.values():
        problems += _judge(sorted(of_session, key=began_ns))
    by_key: defaultdict[str, list[Operation]] = defaultdict(list)
    for each in asked(operations, "write", "read"):
        by_key[each.invocation.key].append(each)
    for of_key in by_key.values():
        problems += _wrong_values(of_key)
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


def _wrong_values(operations: Sequence[Operation]) -> list[Problem]:
    """Along the revisions a key takes each value once, from where it is written to the next one.

    A write of unknown outcome may have its revision anywhere, but it has one only.
    """
    asked_for = {each.invocation.value for each in asked(operations, "write")}
    held: Any = None
    latest: Operation | None = None  # the last read that showed it
    gone: set[Any] = set()
    problems: list[Problem] = []
    for each in sorted(answered(operations, "write", "read"), key=_place):
        is_write, value = each.invocation.function == "write", _value(each)
        if value == held and not is_write:
            latest = each
        elif value is not None and value not in asked_for:
            problems.append(problem(f"{_shows(each)}, which was never written", each))
        elif latest is not None and (
            value == held or value in gone or _revision(each) == _revision(latest)
        ):
            problems.append(problem(f"{_shows(each)}, though {_shows(latest)}", latest, each))
        else:
            gone.add(held)
            held, latest = value, each
    return problems


def _place(operation: Operation) -> tuple[int, bool]:
    return _revision(operation), operation.invocation.function == "read"


def _value(operation: Operation) -> Any:
    is_write = operation.invocation.function == "write"
    return operation.invocation.value if is_write else returned(operation)[0]


def _shows(operation: Operation) -> str:
    what = "wrote" if operation.invocation.function == "write" else "read"
    return (
        f"{who(operation)} {what} {_value(operation)} in {operation.invocation.key} at revision"
        f" {_revision(operation)}"
    )


def _revision(operation: Operation) -> int:
    answer = returned(operation)
    revision: int = answer if operation.invocation.function == "write" else answer[1]
    return revision

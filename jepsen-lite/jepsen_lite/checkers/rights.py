"""Users do what they have the rights for, and nothing else, from the moment on that these change.

Expects operations of one workload, each with the value [user, ...], and with
- "grant" and "withdraw" of the value [user, role, access] and [user, role]: the role gives access
  to the user's keys, is granted once, and is gone after the withdrawal;
- "disable" and "enable": in between nothing is refused;
- operations on the user's own keys, which need the access of `NEEDS`; on own leases; and on keys
  and leases of others, `FORBIDDEN`;
- "look": returns all keys and values.

Rights are possible from the beginning of their grant to the end of their withdrawal, and certain
from the end of the one to the beginning of the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from jepsen_lite.history import Kind, Operation, answered, asked, began_ns, ended_ns, returned
from jepsen_lite.verdicts import Finding, Problem, at, finding, problem, unknown, who

_NAME = "rights"
DENIED = "PERMISSION_DENIED"
UNAUTHENTICATED = "UNAUTHENTICATED"
READ, WRITE = frozenset({"read"}), frozenset({"write"})
BOTH = READ | WRITE
ACCESSES: Mapping[str, frozenset[str]] = {"read": READ, "write": WRITE, "readwrite": BOTH}
NEEDS: Mapping[str, frozenset[str]] = {
    "put": WRITE,
    "get": READ,
    "put-named": BOTH,
    "swap": BOTH,
    "take": BOTH,
    "put-on-lease": WRITE,
}
"""The access that each operation on own keys needs."""
WATCHES: Mapping[str, frozenset[str]] = {"watch": READ}
"""A watch may begin at a node that has not applied a withdrawal."""
FORBIDDEN = frozenset(
    {"intrude", "pry", "renew-other-lease", "end-other-lease", "attach-to-other-lease"}
)
WRITES = frozenset({"put", "intrude"})
"""The values that they put are put by no other operation."""


class Right(NamedTuple):
    """An access within a time; both ends are moments of the history."""

    access: frozenset[str]
    begins_ns: float
    ends_ns: float


def check(operations: Sequence[Operation]) -> Finding:
    """Operations that were done without a right, or refused in spite of one."""
    counts: Counter[str] = Counter()
    timeline = _Timeline(operations)
    problems: list[Problem] = []
    for each in operations:
        counts["refused"] += _is_denied(each)
        problems += _judged(each, timeline)
    problems += _written_without_right(operations, timeline)
    counts["withdrawn"] = sum(1 for _ in answered(operations, "withdraw"))
    if not counts["withdrawn"] or not counts["refused"]:
        return unknown(_NAME, "no right was withdrawn, or nothing refused", counts)
    return finding(_NAME, problems, counts)


class _Timeline:
    """The rights of all users over time."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._possible: dict[str, list[Right]] = {}
        self._certain: dict[str, list[Right]] = {}
        withdrawals: dict[str, list[Operation]] = {}
        for each in asked(operations, "withdraw"):
            withdrawals.setdefault(each.invocation.value[1], []).append(each)
        for grant in asked(operations, "grant"):
            user, role, access = grant.invocation.value
            kinds, ends = ACCESSES[access], withdrawals.get(role, [])
            self._add(self._possible, user, kinds, began_ns(grant), _first(map(ended_ns, ends)))
            self._add(self._certain, user, kinds, ended_ns(grant), _first(map(began_ns, ends)))
        self._off_possible = list(_between(operations, "disable", "enable", certain=False))
        self._off_certain = list(_between(operations, "disable", "enable", certain=True))

    @staticmethod
    def _add(
        rights: dict[str, list[Right]],
        user: str,
        access: frozenset[str],
        begins_ns: float,
        ends_ns: float,
    ) -> None:
        if begins_ns < ends_ns:
            rights.setdefault(user, []).append(Right(access, begins_ns, ends_ns))

    def may_allow(
        self, user: str, access: frozenset[str] | None, begins_ns: float, ends_ns: float
    ) -> bool:
        """Whether the access is possible at some moment of this time. None: no user has it."""

        def overlaps(right: Right) -> bool:
            return right.begins_ns <= ends_ns and begins_ns <= right.ends_ns

        if any(map(overlaps, self._off_possible)):
            return True
        if access is None:
            return False
        found = [each.access for each in self._possible.get(user, ()) if overlaps(each)]
        return access <= frozenset().union(*found)

    def must_allow(
        self, user: str, access: frozenset[str] | None, begins_ns: float, ends_ns: float
    ) -> bool:
        """Whether the access is certain for all of this time."""

        def covers(right: Right) -> bool:
            return right.begins_ns <= begins_ns and ends_ns <= right.ends_ns

        if any(map(covers, self._off_certain)):
            return True
        if access is None:
            return False
        return any(covers(each) and access <= each.access for each in self._certain.get(user, ()))


def _first(moments: Iterable[float]) -> float:
    return min(moments, default=float("inf"))


def _between(
    operations: Sequence[Operation], begin: str, end: str, *, certain: bool
) -> Iterator[Right]:
    """When authentication may be off, or is. The switches are asked for one after the other; one
    whose outcome is unknown may still come when others have.
    """
    unclear_from = _first(
        began_ns(each) for each in asked(operations, begin, end) if each.kind is Kind.INFO
    )
    ends = list(answered(operations, end))
    for each in asked(operations, begin):
        later = [other for other in ends if began_ns(other) > began_ns(each)]
        if certain:
            until_ns = min(_first(map(began_ns, later)), unclear_from)
            if ended_ns(each) < until_ns:
                yield Right(BOTH, ended_ns(each), until_ns)
        else:
            until_ns = _first(map(ended_ns, later))
            if unclear_from <= until_ns:
                until_ns = float("inf")
            yield Right(BOTH, began_ns(each), until_ns)


def _is_denied(operation: Operation) -> bool:
    return operation.completion is not None and operation.completion.error == DENIED


def _judged(operation: Operation, timeline: _Timeline) -> Iterator[Problem]:
    function, user = operation.invocation.function, operation.invocation.value[0]
    completion = operation.completion
    if completion is None:
        return
    if completion.error == UNAUTHENTICATED:
        yield problem(f"{_of(operation)} was refused: {UNAUTHENTICATED}", operation)
    begins_ns, ends_ns = began_ns(operation), completion.time_ns
    own = NEEDS.get(function) or WATCHES.get(function)
    if own is None and function not in FORBIDDEN:
        if _is_denied(operation):
            yield problem(f"{_of(operation)} was refused, and needs no right", operation)
    elif operation.kind is Kind.OK and function not in WATCHES:
        if not timeline.may_allow(user, own, begins_ns, ends_ns):
            yield problem(f"{_of(operation)} was done without the right", operation)
    elif _is_denied(operation) and timeline.must_allow(user, own, begins_ns, ends_ns):
        yield problem(f"{_of(operation)} was refused in spite of the right", operation)


def _written_without_right(
    operations: Sequence[Operation], timeline: _Timeline
) -> Iterator[Problem]:
    """Values that were read, although they were put without a right, or the put was refused."""
    puts = {
        each.invocation.value[1]: each for each in operations if each.invocation.function in WRITES
    }
    for read in answered(operations, "get", "pry", "look"):
        result = returned(read)
        values = [value for _, value in result] if isinstance(result, list) else [result]
        for put in filter(None, map(puts.get, values)):
            function, user = put.invocation.function, put.invocation.value[0]
            needed = NEEDS.get(function)
            if put.kind is Kind.FAIL:
                yield problem(f"{_of(put)} failed, and was applied", put, read)
            elif not timeline.may_allow(user, needed, began_ns(put), ended_ns(read)):
                yield problem(f"{_of(put)} was applied without the right", put, read)


def _of(operation: Operation) -> str:
    invocation = operation.invocation
    user = invocation.value[0]
    return (
        f"{invocation.function} of {invocation.key} by {user or 'the administrator'}"
        f" ({who(operation)}) {at(began_ns(operation))}"
    )

"""What must be refused is refused, for the right reason, and leaves nothing behind.

Expects operations of one workload with
- "refuse": key one of `EXPECTED`, value the key that the refused transaction puts first, or the
  lease that is granted; returns the reason of the refusal, or `DONE`;
- "fill": puts its key, one of the large ones that some of the transactions read;
- "look": returns the keys that refused transactions have put;
- "sweep": puts as many keys as its value says, and deletes them at once; returns the revision and
  how many were deleted;
- "compact": returns the revision, or the reason of the refusal;
- "take", of a lock that nobody waits for: returns its token, or the reason;
- "take-blocked": returns the first and the last token that is blocked, the revision at which they
  were blocked, and the token or the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jepsen_lite.clients.protocol import LOCK_NOT_ACQUIRED
from jepsen_lite.history import (
    Kind,
    Operation,
    answered,
    asked,
    before,
    began_ns,
    ended_ns,
    returned,
)
from jepsen_lite.verdicts import Finding, Problem, at, finding, problem, unknown, who

_NAME = "refusals"
DONE = "done"
MISSING_KEY = "KEY_NOT_FOUND"
BLOCKED = "REFUSED"
EXPECTED = {
    "future-revision": "REVISION_IN_FUTURE",
    "compacted-revision": "REVISION_COMPACTED",
    "missing-key": MISSING_KEY,
    "granted-lease": "LEASE_EXISTS",
    "large-answer": "TOO_LARGE",
    "too-many-keys": "TOO_MANY_KEYS",
}
"""The kinds of requests, each with the reason."""
ALWAYS = frozenset({"future-revision", "missing-key"})
"""Kinds that are refused whatever has happened."""
OF_LARGE_KEYS: Mapping[str, int] = {"large-answer": 1, "too-many-keys": 2}
"""Kinds refused because of large keys, and how many of these must be there. A cluster of an
older version does not refuse the second one.
"""
OF_THE_STORE = frozenset({*EXPECTED.values(), BLOCKED, "INVALID_REQUEST", "FENCED_OFF"})
"""Reasons that say something about the request or the state, not about the cluster's health."""


def check(operations: Sequence[Operation]) -> Finding:
    """An acknowledged cause makes the refusal certain; a refusal without a cause is wrong."""
    refused = [
        each for each in answered(operations, "refuse") if returned(each) == EXPECTED[_kind(each)]
    ]
    statistics = {kind: sum(_kind(each) == kind for each in refused) for kind in EXPECTED} | {
        "blocked": sum(
            returned(each)[3] == BLOCKED for each in answered(operations, "take-blocked")
        )
    }
    if not refused:
        return unknown(_NAME, "nothing was ever refused", statistics)
    causes = _Causes(operations)
    problems: list[Problem] = []
    for each in answered(operations, "refuse"):
        problems += causes.misjudged(each)
    for each in answered(operations, "sweep"):
        if returned(each)[1] != each.invocation.value:
            problems.append(problem(f"{_of(each)} deleted {returned(each)[1]} keys", each))
    for each in operations:
        if each.kind is Kind.FAIL and each.completion and each.completion.error in OF_THE_STORE:
            reason = each.completion.error
            problems.append(problem(f"{_of(each)} was refused as {reason}", each))
    problems += _traces(operations) + _granted_twice(operations) + _tokens(operations)
    return finding(_NAME, problems, statistics)


class _Causes:
    """What makes the store refuse a request, as far as it is known."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._refuse = list(asked(operations, "refuse"))
        self._fills = list(asked(operations, "fill"))
        self._compactions = list(asked(operations, "compact")) + [
            each for each in self._refuse if _kind(each) == "compacted-revision"
        ]

    def misjudged(self, request: Operation) -> list[Problem]:
        """Why the request should have been refused, or should not."""
        kind, answer = _kind(request), returned(request)
        if answer == DONE:
            cause = self._certain(request)
            if cause is None:
                return []
            return [problem(f"{_of(request)} was done, not refused", cause, request)]
        if answer == EXPECTED[kind] and self._possible(request):
            return []
        return [problem(f"{_of(request)} was refused as {answer}", request)]

    def _certain(self, request: Operation) -> Operation | None:
        """An operation before this request after which it must be refused."""
        kind = _kind(request)
        if kind in ALWAYS:
            return request
        if kind == "compacted-revision":
            causes = [each for each in self._compactions if each.kind is Kind.OK]
        elif kind == "granted-lease":
            causes = self._grants(request)
        elif kind == "large-answer":
            causes = [each for each in self._fills if each.invocation.key.endswith("/0")]
        else:
            # Once the version of the cluster has bounds, it always has.
            causes = [
                each
                for each in self._refuse
                if _kind(each) == "too-many-keys" and returned(each) == EXPECTED["too-many-keys"]
            ]
        return next((each for each in causes if before(each, request)), None)

    def _possible(self, request: Operation) -> bool:
        """Whether anything that may have been done makes the store refuse this request."""
        kind = _kind(request)
        if kind in OF_LARGE_KEYS:
            begun = [each for each in self._fills if began_ns(each) < ended_ns(request)]
            keys = {each.invocation.key for each in begun}
            return len(keys) >= OF_LARGE_KEYS[kind]
        if kind == "granted-lease":
            return any(
                each is not request and began_ns(each) < ended_ns(request)
                for each in self._grants(request)
            )
        return True  # of a compacted revision: the operator compacts, too

    def _grants(self, request: Operation) -> list[Operation]:
        return [
            each
            for each in self._refuse
            if _kind(each) == "granted-lease"
            and each.invocation.value == request.invocation.value
            and returned(each) != EXPECTED["granted-lease"]
        ]


def _traces(operations: Sequence[Operation]) -> list[Problem]:
    """No read shows a key of a transaction that was refused."""
    puts = {
        each.invocation.value: each
        for each in operations
        if each.invocation.function == "refuse" and _kind(each) != "granted-lease"
    }
    return [
        problem(f"{_of(put)} has left the key {key}, seen {at(began_ns(look))}", put, look)
        for look in answered(operations, "look")
        for key in returned(look)
        if (put := puts[key]).kind is Kind.FAIL
        or _kind(put) in ALWAYS
        or returned(put) in OF_THE_STORE
    ]


def _granted_twice(operations: Sequence[Operation]) -> list[Problem]:
    first: dict[int, Operation] = {}
    problems: list[Problem] = []
    for each in answered(operations, "refuse"):
        if _kind(each) == "granted-lease" and returned(each) == DONE:
            other = first.setdefault(each.invocation.value, each)
            if other is not each:
                problems.append(problem(f"{_of(each)} was done a second time", other, each))
    return problems


def _tokens(operations: Sequence[Operation]) -> list[Problem]:
    """The tokens of a lock increase, and none of them is that of a key in the way."""
    problems: list[Problem] = []
    taken = [each for each in answered(operations, "take") if isinstance(returned(each), int)]
    for earlier in taken:
        for later in taken:
            if before(earlier, later) and returned(later) <= returned(earlier):
                problems.append(
                    problem(f"{_of(later)} has no higher token than an earlier one", earlier, later)
                )
    for each in answered(operations, "take-blocked"):
        first, last, revision, token = returned(each)
        if isinstance(token, int) and first <= token <= last:
            problems.append(problem(f"{_of(each)} took the token {token} of a key in use", each))
        elif token == LOCK_NOT_ACQUIRED and not first <= revision <= last:
            problems.append(problem(f"{_of(each)} found a holder, and there was none", each))
    return problems


def _kind(operation: Operation) -> str:
    return operation.invocation.key


def _of(operation: Operation) -> str:
    invocation = operation.invocation
    return (
        f"{invocation.function} of {invocation.key} by {who(operation)} {at(began_ns(operation))}"
    )

"""The explanation of a history that is not linearizable, for a reader who has not seen it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jepsen_lite.checkers.linearizable.register_model import seen_by, version_returned, written
from jepsen_lite.checkers.linearizable.search import NEVER, Call
from jepsen_lite.history import Kind, Operation, before, began_ns, ended_ns, returned, was_settled
from jepsen_lite.verdicts import Problem, at, problem, who


def explained(key: str, operations: Sequence[Operation], calls: Sequence[Call]) -> Problem:
    """`operations` are all of the key, `calls` the few that are illegal, named by their places."""
    involved = [operations[call.name] for call in calls]
    # Without the call that ended last they were legal, so it is the one that fits nowhere.
    refused = max((call for call in calls if call.ended != NEVER), key=lambda call: call.ended)
    reason = _reason(operations[refused.name], refused, operations, involved)
    steps = "; ".join(_told_short(each) for each in involved)
    headline = reason or f"these {len(involved)} calls fit into no order that respects their times"
    return problem(f"{key}: {headline}. The calls: {steps}.", *involved)


def _reason(
    refused: Operation, call: Call, operations: Sequence[Operation], involved: Sequence[Operation]
) -> str:
    """Why the refused call fits nowhere, where one sentence can say it; else nothing."""
    seen = seen_by(call.input, call.output)
    if not seen:
        return ""
    value = seen[0]
    begins = f"{who(refused)} {_saw(refused)} {_value(value)} {at(began_ns(refused))}"
    writers = [each for each in involved if each is not refused and _leaves(each, value)]
    if value is not None and not writers:
        for each in operations:
            if each.kind is Kind.FAIL and _leaves(each, value):
                if was_settled(each):
                    return f"{begins}, but what {who(each)} asked for was never committed"
                return f"{begins}, but {who(each)} who wrote it had observed that it failed"
        if any(
            each.kind is not Kind.FAIL
            and _leaves(each, value)
            and began_ns(each) <= ended_ns(refused)
            for each in operations
        ):
            return ""
        return f"{begins}, which no operation had begun to write before that read returned"
    for newer in involved:
        overtakes = newer not in writers and written(_asked(newer)) is not None
        if overtakes and before(newer, refused) and all(before(each, newer) for each in writers):
            knew = "known to be committed" if was_settled(newer) else "acknowledged"
            return (
                f"{begins}, although {_value(written(_asked(newer)))} had been written by"
                f" {who(newer)} and {knew} {at(ended_ns(newer))}, before it began"
            )
    return ""


def _asked(operation: Operation) -> tuple[str, Any]:
    return operation.invocation.function, operation.invocation.value


def _leaves(operation: Operation, value: Any) -> bool:
    return operation.invocation.function != "read" and bool(written(_asked(operation)) == value)


def _saw(operation: Operation) -> str:
    return "read" if operation.invocation.function == "read" else "compared with and found"


def _value(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _told_short(operation: Operation) -> str:
    """ "process 3 wrote v7 (0.1 s to 0.2 s)"."""
    function, value = _asked(operation)
    answer = returned(operation) if operation.kind is Kind.OK else None
    if function == "read" and answer is not None:
        did = f"read {_value(answer[0])}"
    elif function == "write":
        did = f"wrote {_value(value)}"
    elif answer is None or answer[0]:
        did = _swapped(*value)
    else:
        did = (
            f"did not swap {_value(value[0])} for {_value(value[1])}, returned {_value(answer[1])}"
        )
    version = version_returned((function, value), answer)
    if version is not None:  # calls may contradict each other in nothing else
        did += f", version {version}"
    ended = (
        f"to {ended_ns(operation) / 1e9:.6f} s"
        if operation.kind is Kind.OK
        else "on, its outcome unknown"
    )
    return f"{who(operation)} {did} (from {began_ns(operation) / 1e9:.6f} s {ended})"


def _swapped(old: Any, new: Any) -> str:
    if old is None:
        return f"wrote {_value(new)} where nothing was"
    return f"swapped {_value(old)} for {_value(new)}"

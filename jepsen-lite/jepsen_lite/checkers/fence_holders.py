"""A write under a fencing token is accepted only while the token is that of the lock's holder.

Expects operations of `checkers.lock` on one lock, and
- "write": value [token, element]: a write under that token, of a holder, of a former holder, or of
  one that waits in the queue.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from jepsen_lite.checkers.lock import holds_by_name
from jepsen_lite.history import Kind, Operation, answered, began_ns, ended_ns
from jepsen_lite.verdicts import Finding, at, finding, problem, who

_NAME = "fence-holders"


def check(operations: Sequence[Operation]) -> Finding:
    """No write within the certain hold of one token is accepted under another one."""
    problems = []
    strangers = 0
    for name, holds in holds_by_name(operations, None, "acquire", "release").items():
        begun = [hold.from_ns for hold in holds]
        for write in operations:
            if write.invocation.function != "write":
                continue
            place = bisect_right(begun, began_ns(write)) - 1
            if place < 0:
                continue
            hold, token = holds[place], write.invocation.value[0]
            within = write.kind is Kind.OK and ended_ns(write) < hold.until_ns
            strangers += token != hold.token
            if within and token != hold.token:
                text = (
                    f"{name}: {who(write)}'s write {at(began_ns(write))} under token {token} was"
                    f" accepted while {who(hold.acquired)} held it under token {hold.token}"
                )
                problems.append(problem(text, hold.acquired, write))
    accepted = sum(1 for _ in answered(operations, "write"))
    return finding(_NAME, problems, {"accepted": accepted, "under_other_tokens": strangers})

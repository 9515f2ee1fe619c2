"""A holder whose lock is removed learns of its loss within a second, where no fault interferes."""

from __future__ import annotations

from collections.abc import Sequence

from jepsen_lite.checkers.lock import holds_by_name
from jepsen_lite.faults.record import FaultRecord
from jepsen_lite.history import Operation, answered, began_ns, ended_ns
from jepsen_lite.verdicts import Finding, at, finding, problem, who

NOTICED_S = 1.0
SLACK_S = 0.2
SETTLED_S = 6.0
"""This long after a fault a leader is elected, and clients have nodes for their watches."""
_NAME = "losses"
NS_PER_S = 1_000_000_000


def check_losses(
    operations: Sequence[Operation],
    acquire: str,
    release: str,
    fault_records: Sequence[FaultRecord],
) -> Finding:
    """A holder whose key or lease is removed reports its loss in time, unless it releases first.

    Removals beside faults, or soon after, are not judged: a watch has to find another node then.
    """
    within_ns = (NOTICED_S + SLACK_S) * NS_PER_S
    holds = {
        hold.token: hold
        for of_name in holds_by_name(operations, None, acquire, release).values()
        for hold in of_name
    }
    removals = [
        each
        for each in answered(operations, "remove")
        if each.invocation.value[0] in holds and _is_calm(each, within_ns, fault_records)
    ]
    problems = []
    for removal in removals:
        hold = holds[removal.invocation.value[0]]
        known_ns = max(ended_ns(removal), hold.from_ns)
        if hold.until_ns > known_ns + within_ns:
            text = (
                f"{removal.invocation.key}: {who(hold.acquired)} held it under token {hold.token},"
                f" whose {removal.invocation.value[1]} was removed {at(ended_ns(removal))}, and"
                f" did not know of its loss within {NOTICED_S:g} s"
            )
            problems.append(problem(text, hold.acquired, removal))
    return finding(_NAME, problems, {"removals": len(removals)})


def _is_calm(removal: Operation, within_ns: float, fault_records: Sequence[FaultRecord]) -> bool:
    until_ns = ended_ns(removal) + within_ns
    from_ns = began_ns(removal) - SETTLED_S * NS_PER_S
    return not any(
        record.began_ns < until_ns and (record.ended_ns is None or record.ended_ns > from_ns)
        for record in fault_records
    )

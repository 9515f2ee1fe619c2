"""Transfers between accounts: every read shows the same total.

Expects operations of one workload with "read": returns {account: balance}, all accounts in one
transaction. Transfers themselves need not be judged: any sum that differs proves the anomaly.
"""

from __future__ import annotations

from collections.abc import Sequence

from jepsen_lite.history import Operation, answered, began_ns, returned
from jepsen_lite.verdicts import Finding, at, finding, problem, unknown, who

_NAME = "bank"


def check(
    operations: Sequence[Operation],
    total: int,
    accounts: Sequence[str],
    negative_allowed: bool = False,
) -> Finding:
    """Every read shows these accounts, `total` in all of them, and none below zero."""
    reads = list(answered(operations, "read"))
    statistics = {"reads": len(reads)}
    if not reads:
        return unknown(_NAME, "the accounts were never read", statistics)
    problems = []
    for read in reads:
        balances: dict[str, int] = returned(read)
        wrong = []
        if set(balances) != set(accounts):
            missing = sorted(set(accounts) ^ set(balances))
            wrong.append(f"missing or unexpected accounts: {', '.join(missing)}")
        elif sum(balances.values()) != total:
            wrong.append(f"{sum(balances.values())} in all where {total} must be")
        negative = sorted(account for account, balance in balances.items() if balance < 0)
        if negative and not negative_allowed:
            wrong.append(f"less than nothing in {', '.join(negative)}")
        if wrong:
            text = f"{who(read)}'s read {at(began_ns(read))} shows {'; '.join(wrong)}: {balances}"
            problems.append(problem(text, read))
    return finding(_NAME, problems, statistics)

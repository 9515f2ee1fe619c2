"""Transfers between accounts: whoever looks at all of them sees the same sum.

An account that nobody has used yet holds `OPENING_BALANCE`, so nothing has to be set up.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import bank
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, NotDone, Session
from jepsen_lite.workloads.optimistic import read_together, write_if_unchanged
from raftkv.client.results import KeyValue

KEY = "bank"
ACCOUNTS = tuple(f"bank/{number}" for number in range(6))
OPENING_BALANCE = 10
TRANSFER_MAX = 5


class Bank:
    """Reads see all accounts at one revision; transfers compare what they change."""

    name = "bank"
    reads = frozenset({"read"})

    def next(self, rng: Random, seat: int) -> Invocation:
        if rng.random() < 0.4:
            return Invocation("read", KEY)
        source, target = rng.sample(ACCOUNTS, 2)
        return Invocation("transfer", KEY, [source, target, rng.randint(1, TRANSFER_MAX)])

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client = session.client
        if invocation.function == "read":
            return {
                account: _balance(item)
                for account, item in (await read_together(client, ACCOUNTS, timeout_s)).items()
            }
        source, target, amount = invocation.value
        items = await read_together(client, (source, target), timeout_s)
        left, right = _balance(items[source]) - amount, _balance(items[target]) + amount
        if left < 0:
            raise NotDone("not enough money")
        values = {source: str(left), target: str(right)}
        await write_if_unchanged(client, items, values, timeout_s)
        return invocation.value

    def final(self) -> Sequence[Invocation]:
        return [Invocation("read", KEY)]

    def check(self, history: History) -> list[Finding]:
        total = OPENING_BALANCE * len(ACCOUNTS)
        return [bank.check(list(history.operations(self.name)), total, ACCOUNTS)]


def _balance(item: KeyValue | None) -> int:
    return OPENING_BALANCE if item is None else int(item.value)

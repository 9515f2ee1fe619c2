"""Transfers between accounts: every read of all accounts sees the same sum.

An account that was never used holds `OPENING_BALANCE`, so nothing has to be set up.

With six accounts transfers often conflict, as intended. A transfer that finds an account changed
was not applied, and is retried within its timeout: on a slow database most transfers would fail
otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import bank
from jepsen_lite.clients.protocol import Conflict, KeyValue, KvClient
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session

KEY = "bank"
ACCOUNTS = tuple(f"bank/{number}" for number in range(6))
OPENING_BALANCE = 10
TRANSFER_MAX = 5


class BankWorkload:
    """Reads see all accounts at one revision; transfers compare what they change."""

    name = "bank"
    reads = frozenset({"read"})

    def next(self, rng: Random, worker: int) -> Invocation:
        if rng.random() < 0.4:
            return Invocation("read", KEY)
        source, target = rng.sample(ACCOUNTS, 2)
        return Invocation("transfer", KEY, [source, target, rng.randint(1, TRANSFER_MAX)])

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client = session.client
        if invocation.function == "read":
            return {
                account: _balance(item)
                for account, item in (await client.read_many(ACCOUNTS, timeout_s=timeout_s)).items()
            }
        source, target, amount = invocation.value
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        while (left_s := until_s - loop.time()) > 0:
            try:
                moved = await _transfer(client, source, target, amount, left_s)
            except Conflict:
                continue
            return [source, target, moved]
        raise Conflict("the accounts changed in every attempt")

    def final(self) -> Sequence[Invocation]:
        return [Invocation("read", KEY)]

    def check(self, history: History) -> list[Finding]:
        total = OPENING_BALANCE * len(ACCOUNTS)
        return [bank.check(list(history.operations(self.name)), total, ACCOUNTS)]


async def _transfer(
    client: KvClient, source: str, target: str, amount: int, timeout_s: float
) -> int:
    """Returns the amount moved. Raises `Conflict` if an account has changed meanwhile."""
    # Two reads, not one transaction: the write proves that both accounts are as they were read.
    found = await asyncio.gather(
        client.get(source, timeout_s=timeout_s), client.get(target, timeout_s=timeout_s)
    )
    items = dict(zip((source, target), found, strict=True))
    left, right = _balance(items[source]), _balance(items[target])
    # Never more than the balance. To refuse instead would make a healed system seem broken: a
    # transfer from an account that stays empty would be refused for ever.
    amount = min(amount, left)
    values = {source: str(left - amount), target: str(right + amount)}
    await client.write_many(values, unchanged=items, timeout_s=timeout_s)
    return amount


def _balance(item: KeyValue | None) -> int:
    return OPENING_BALANCE if item is None else int(item.value)

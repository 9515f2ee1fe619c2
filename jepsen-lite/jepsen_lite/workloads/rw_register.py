"""Transactions that read and write several registers; they must be strictly serializable.

Half of the transactions go through the client's own `transaction`, the others read all keys at one
revision and write if none of them has changed, so that both ways are judged.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers.elle import rw_register
from jepsen_lite.clients.protocol import KvClient, Transaction
from jepsen_lite.generators import PerKey
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session

KEY = "rw-register"
BY_HAND = "by hand"
REGISTERS = 4
USES = 100
MICRO_OPERATIONS_MAX = 4


class RwRegisterWorkload:
    """Transactions write each value once, so that a read says which write it saw."""

    name = "rw-register"
    reads: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._registers = PerKey("rw-register/", REGISTERS, USES)
        self._values = itertools.count(1)

    def next(self, rng: Random, worker: int) -> Invocation:
        micro = [self._draw(rng) for _ in range(rng.randint(1, MICRO_OPERATIONS_MAX))]
        return Invocation("txn", KEY if rng.random() < 0.5 else BY_HAND, micro)

    def _draw(self, rng: Random) -> list[Any]:
        key = self._registers.draw(rng)
        return ["r", key, None] if rng.random() < 0.5 else ["w", key, next(self._values)]

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client, micro = session.client, invocation.value
        if invocation.key == BY_HAND:
            return await _by_hand(client, micro, timeout_s)

        async def body(transaction: Transaction) -> list[list[Any]]:
            # What is only written is not read: the store must order blind writes as well.
            keys = dict.fromkeys(key for function, key, _ in micro if function == "r")
            answer, written = carried_out(micro, {key: await transaction.get(key) for key in keys})
            for key, value in written.items():
                transaction.put(key, value)
            return answer

        return await client.transact(body, timeout_s=timeout_s)

    def final(self) -> Sequence[Invocation]:
        return [Invocation("txn", KEY, [["r", key, None]]) for key in self._registers.used()]

    def check(self, history: History) -> list[Finding]:
        return [rw_register.check(list(history.operations(self.name)))]


def carried_out(
    micro: Sequence[list[Any]], found: Mapping[str, str | bytes | None]
) -> tuple[list[list[Any]], dict[str, str]]:
    """The result of the transaction and its writes, given what it has found in the store."""
    written: dict[str, str] = {}
    answer: list[list[Any]] = []
    for function, key, value in micro:
        if function == "w":
            written[key] = str(value)
            answer.append([function, key, value])
        else:
            held = written.get(key, found.get(key))
            answer.append([function, key, None if held is None else int(held)])
    return answer, written


async def _by_hand(client: KvClient, micro: Sequence[list[Any]], timeout_s: float) -> Any:
    """Read what is asked for at one revision, and write if it has not changed since."""
    keys = list(dict.fromkeys(key for function, key, _ in micro if function == "r"))
    items = await client.read_many(keys, timeout_s=timeout_s) if keys else {}
    held = {key: None if item is None else item.value for key, item in items.items()}
    answer, written = carried_out(micro, held)
    if written:
        await client.write_many(written, unchanged=items, timeout_s=timeout_s)
    return answer

"""Transactions that read lists and append to them; they must be strictly serializable.

A list is a JSON array under its key. Half of the transactions go through the client's own
`transaction`, the others are compared and written by hand, so that both ways are judged.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers.elle import append
from jepsen_lite.clients.protocol import KvClient, Transaction
from jepsen_lite.generators import PerKey
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session

KEY = "append"
LISTS = 5
USES = 60
MICRO_OPERATIONS_MAX = 4
BY_HAND = "by hand"

Lists = Mapping[str, list[int] | None]


class AppendWorkload:
    """Every element is appended once, so that a list shows the order of all appends to it."""

    name = "append"
    reads: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._lists = PerKey("append/", LISTS, USES)
        self._elements = itertools.count(1)

    def next(self, rng: Random, worker: int) -> Invocation:
        micro = [self._draw(rng) for _ in range(rng.randint(1, MICRO_OPERATIONS_MAX))]
        return Invocation("txn", KEY if rng.random() < 0.5 else BY_HAND, micro)

    def _draw(self, rng: Random) -> list[Any]:
        key = self._lists.draw(rng)
        if rng.random() < 0.5:
            return ["r", key, None]
        return ["append", key, next(self._elements)]

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client, micro = session.client, invocation.value
        if invocation.key == BY_HAND:
            return await _by_hand(client, micro, timeout_s)

        async def body(transaction: Transaction) -> list[list[Any]]:
            keys = dict.fromkeys(key for _, key, _ in micro)
            found = {key: _decoded(await transaction.get(key)) for key in keys}
            answer, written = carried_out(micro, found)
            for key, elements in written.items():
                transaction.put(key, json.dumps(elements))
            return answer

        return await client.transact(body, timeout_s=timeout_s)

    def final(self) -> Sequence[Invocation]:
        lists = self._lists.used()
        return [Invocation("txn", KEY, [["r", key, None]]) for key in lists]

    def check(self, history: History) -> list[Finding]:
        return [append.check(list(history.operations(self.name)))]


def carried_out(
    micro: Sequence[list[Any]], found: Lists
) -> tuple[list[list[Any]], dict[str, list[int]]]:
    """The result of the transaction and the lists that it changes, given the lists that it read."""
    present = {key: None if elements is None else list(elements) for key, elements in found.items()}
    written: dict[str, list[int]] = {}
    answer: list[list[Any]] = []
    for function, key, element in micro:
        if function == "append":
            present[key] = written[key] = [*(present[key] or []), element]
            answer.append([function, key, element])
        else:
            elements = present[key]
            answer.append([function, key, None if elements is None else list(elements)])
    return answer, written


async def _by_hand(client: KvClient, micro: Sequence[list[Any]], timeout_s: float) -> Any:
    """Read all keys at one revision, and write if none of them has changed since."""
    keys = list(dict.fromkeys(key for _, key, _ in micro))
    items = await client.read_many(keys, timeout_s=timeout_s)
    found = {key: _decoded(item.value if item else None) for key, item in items.items()}
    answer, written = carried_out(micro, found)
    if not written:
        return answer
    values = {key: json.dumps(elements) for key, elements in written.items()}
    await client.write_many(values, unchanged=items, timeout_s=timeout_s)
    return answer


def _decoded(value: str | bytes | None) -> list[int] | None:
    if value is None:
        return None
    elements: list[int] = json.loads(value)
    return elements

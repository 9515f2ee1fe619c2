"""Transactions of several keys with compares of all kinds and ranges, over keys of any bytes.

Values have no characters, few, or as many as the store takes. A key may have bytes that are no
text, and be the beginning of another one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import transactions
from jepsen_lite.checkers.key_model import FIELDS, RELATIONS, content, in_order, symbol, symbols_of
from jepsen_lite.clients.commands import Operation, Transaction
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session

DATA, DATA_END = "transactions/data/", "transactions/data0"
LOG, LOG_END = "transactions/log/", "transactions/log0"
LONG = DATA + "long" * ((8_192 - len(DATA)) // 4)
"""As many bytes as a key may have."""
LARGE = DATA + "large"
"""The only key with large values, as the answers to one transaction are bounded together."""
KEYS = tuple(
    sorted(
        (
            *(DATA + name for name in ("a", "a\x00", "a\x00b", "a\udcff", "b", "\x00", "\x00\x00")),
            *(DATA + name for name in ("\udcff", "\udcff\udcff", "é")),
            LARGE,
            LONG,
        ),
        key=in_order,
    )
)
BOUNDS = (DATA, *KEYS, DATA_END)
SIZES = (0, 20, 20, 20, 5_000)
LARGE_SIZES = (0, 100_000, 1 << 20)
LOG_PAGE_KEYS = 100


class TransactionWorkload:
    """Transactions that compare, put, read and delete single keys and ranges; and range reads."""

    name = "transactions"
    reads = frozenset({"read", "log"})

    def __init__(self) -> None:
        self._values = itertools.count(1)
        self._names = itertools.count(1)
        self._seen: dict[str, list[Any]] = {}
        """The row of each key that was seen last, so that compares hold about as often as not."""
        self._revisions: list[int] = []

    def next(self, rng: Random, worker: int) -> Invocation:
        if rng.random() < 0.3:
            start, end = _range(rng)
            revision = rng.choice(self._revisions) if self._revisions and rng.random() < 0.3 else 0
            return Invocation("read", DATA, [start, end, revision, rng.choice((0, 1, 4))])
        name = f"{LOG}{next(self._names):06}"
        transaction = self._transaction(rng)
        for branch in ("success", "failure"):
            transaction[branch].append(["put", name, ""])
        return Invocation("txn", name, transaction)

    def _transaction(self, rng: Random, depth: int = 0) -> dict[str, list[Any]]:
        return {
            "compare": [self._compare(rng) for _ in range(rng.randrange(3))],
            "success": self._branch(rng, depth),
            "failure": self._branch(rng, depth),
        }

    def _branch(self, rng: Random, depth: int) -> list[Any]:
        """Puts are of keys on one side of a key, deletions on the other: a branch may not do both
        to one key.
        """
        pivot = rng.randrange(1, len(KEYS))
        puts = rng.sample(KEYS[:pivot], min(pivot, rng.randrange(3)))
        branch: list[Any] = [["put", key, self._value(rng, key)] for key in puts]
        if rng.random() < 0.3:
            first = rng.randrange(pivot, len(KEYS))
            end = rng.choice(("", *KEYS[first + 1 :], DATA_END))
            branch.append(["delete", KEYS[first], end, rng.choice((0, 0, 1, 2)) if end else 0])
        for _ in range(rng.randrange(2)):
            start, end = _range(rng)
            branch.append(["range", start, end, rng.choice((0, 1, 3))])
        if depth == 0 and rng.random() < 0.2:
            inner = self._transaction(rng, depth + 1)
            for each in ("success", "failure"):
                inner[each] = [done for done in inner[each] if done[0] == "range"]
            branch.append(["transaction", inner])
        rng.shuffle(branch)
        return branch

    def _compare(self, rng: Random) -> list[Any]:
        key = rng.choice(KEYS)
        end = ""
        if rng.random() < 0.3:
            key, end = _range(rng)
        row = self._seen.get(key, [key, "", 0, 0, 0, 0])
        relation = rng.choice(list(RELATIONS))
        if rng.random() < 0.3:
            return ["value", relation, key, end, row[1]]
        number = rng.choice(list(FIELDS))
        return [number, relation, key, end, row[FIELDS[number]]]

    def _value(self, rng: Random, key: str) -> str:
        size = rng.choice(LARGE_SIZES if key == LARGE else SIZES)
        return f"v{next(self._values)}*{size}" if size else ""

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        commands, value = session.client.commands, invocation.value
        if invocation.function == "txn":
            revision, answer = await commands.transact(_expanded(value), timeout_s=timeout_s)
            self._revisions = [*self._revisions[-9:], revision]
            return [revision, _shortened(answer)]
        if invocation.function == "log":
            found = await commands.read_range(
                LOG, LOG_END, page_keys=LOG_PAGE_KEYS, timeout_s=timeout_s
            )
            return [[row[0], row[3]] for row in found.rows]
        start, end, revision, page_keys = value
        found = await commands.read_range(
            start, end, revision=revision, page_keys=page_keys, timeout_s=timeout_s
        )
        rows = symbols_of(found.rows)
        self._seen.update((row[0], row) for row in rows)
        return [revision or found.revision, rows]

    def final(self) -> Sequence[Invocation]:
        return [Invocation("read", DATA, [DATA, DATA_END, 0, 3]), Invocation("log", LOG)]

    def check(self, history: History) -> list[Finding]:
        return [transactions.check(list(history.operations(self.name)))]


def _range(rng: Random) -> tuple[str, str]:
    first, last = sorted(rng.sample(range(len(BOUNDS)), 2))
    return BOUNDS[first], BOUNDS[last]


def _expanded(transaction: Transaction) -> dict[str, list[Any]]:
    """The request with the texts that its symbols stand for."""
    return {
        "compare": [
            [*each[:4], content(each[4]) if each[0] == "value" else each[4]]
            for each in transaction["compare"]
        ],
        "success": list(map(_expanded_operation, transaction["success"])),
        "failure": list(map(_expanded_operation, transaction["failure"])),
    }


def _expanded_operation(operation: Operation) -> list[Any]:
    match operation:
        case ["put", key, value]:
            return ["put", key, content(value)]
        case ["transaction", inner]:
            return ["transaction", _expanded(inner)]
    return list(operation)


def _shortened(answer: Any) -> Any:
    """The answer with symbols in place of values: of each row the second part."""
    if not isinstance(answer, list):
        return answer
    if len(answer) == 6 and isinstance(answer[0], str):
        return [answer[0], symbol(answer[1]), *answer[2:]]
    return list(map(_shortened, answer))

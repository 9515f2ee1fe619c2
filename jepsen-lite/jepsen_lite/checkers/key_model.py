"""A plain model of a key-value store with revisions: what a transaction and a read must return.

Requests and answers are those of `clients.commands`. Values are symbols: `content` says which text
a symbol stands for, so that the history need not hold a value of a megabyte.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jepsen_lite.clients.commands import Operation, Row, Transaction

RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
FIELDS = {"create_revision": 2, "mod_revision": 3, "version": 4, "lease": 5}
VALUE = 1


def content(symbol: str) -> str:
    """The text of "v17*1000": 1,000 characters that begin with "v17." and repeat it; "" of ""."""
    if not symbol:
        return ""
    name, _, size = symbol.partition("*")
    unit, length = f"{name}.", int(size)
    return (unit * (length // len(unit) + 1))[:length]


def symbol(text: str) -> str:
    """The inverse of `content`; a text that is none of its results is described instead."""
    if not text:
        return ""
    found = f"{text.partition('.')[0]}*{len(text)}"
    is_whole = found[0] == "v" and found[1 : found.index("*")].isdigit() and content(found) == text
    return found if is_whole else f"no value that was written: {len(text)} characters {text[:20]!r}"


def in_order(key: str) -> bytes:
    """Keys are ordered by their bytes."""
    return key.encode(errors="surrogateescape")


class KeyModel:
    """The rows by key, as they are after the revisions applied so far."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}

    def range(self, key: str, end: str, limit: int = 0) -> tuple[list[Row], int]:
        """The first rows of the range, and how many it has."""
        if not end:
            found = [self._rows[key]] if key in self._rows else []
        else:
            first, last = in_order(key), in_order(end)
            inside = (each for each in self._rows if first <= in_order(each) < last)
            found = [self._rows[each] for each in sorted(inside, key=in_order)]
        return found[: limit or None], len(found)

    def apply(self, transaction: Transaction, revision: int) -> list[Any]:
        """Carry out a transaction at this revision; returns its answer.

        All compares, also those of nested transactions, are evaluated on the state before it.
        """
        return self._run(self._decided(transaction), revision)

    def _decided(self, transaction: Transaction) -> tuple[bool, list[Any]]:
        """Whether all compares hold, and the branch, with nested transactions as decided."""
        holds = all(map(self._holds, transaction["compare"]))
        branch = transaction["success" if holds else "failure"]
        return holds, [
            self._decided(each[1]) if each[0] == "transaction" else each for each in branch
        ]

    def _holds(self, compare: Sequence[Any]) -> bool:
        target, relation, key, end, operand = compare
        rows, _ = self.range(key, end)
        compared = RELATIONS[relation]
        if target == "value":
            # A key that is absent has no value, and a range without keys neither.
            return bool(rows) and all(
                compared(content(row[VALUE]), content(operand)) for row in rows
            )
        field = FIELDS[target]
        return all(compared(row[field], operand) for row in rows or [[0] * 6])

    def _run(self, decided: tuple[bool, list[Any]], revision: int) -> list[Any]:
        holds, branch = decided
        return [
            holds,
            [
                self._run(each, revision) if isinstance(each, tuple) else self._do(each, revision)
                for each in branch
            ],
        ]

    def _do(self, operation: Operation, revision: int) -> Any:
        match operation:
            case ["put", key, value]:
                old = self._rows.get(key)
                created, version = (revision, 1) if old is None else (old[2], old[4] + 1)
                self._rows[key] = [key, value, created, revision, version, 0]
                return old
            case ["delete", key, end, limit]:
                rows, count = self.range(key, end, limit)
                for row in rows:
                    del self._rows[row[0]]
                return [rows, count > len(rows)]
            case ["range", key, end, limit]:
                return list(self.range(key, end, limit))
        raise ValueError(f"no operation: {operation!r}")


def difference(expected: Any, found: Any) -> str:
    """Where two answers differ first, in a few words; "" if they are equal."""
    if expected == found:
        return ""
    if isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        for one, other in itertools.zip_longest(expected, found):
            if one != other:
                both = isinstance(one, list | tuple) and isinstance(other, list | tuple)
                return difference(one, other) if both and one and other else _shown(one, other)
    return _shown(expected, found)


def _shown(expected: Any, found: Any) -> str:
    return f"{_short(found)} where {_short(expected)} must be"


def _short(value: Any) -> str:
    text = "nothing" if value is None else f"{value!r}"
    return text if len(text) < 200 else f"{text[:200]}..."


def symbols_of(rows: Iterable[Row]) -> list[Row]:
    """The rows with symbols in place of their values."""
    return [[row[0], symbol(row[VALUE]), *row[VALUE + 1 :]] for row in rows]

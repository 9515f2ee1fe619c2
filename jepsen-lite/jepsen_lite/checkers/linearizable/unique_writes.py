"""The register model of `register_model.py`, made fast for histories with mostly unique values.

A value that only one call writes must stay until all calls that saw it have taken effect, for it
never returns (the blocks of Gibbons and Korach). So the state counts the calls that have yet to see
its value, and a call that would end a block too early does not fit: the search learns it at once,
not at the next read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from jepsen_lite.checkers.linearizable.register_model import Asked, register_step, seen_by, written
from jepsen_lite.checkers.linearizable.search import NEVER, Call, Model

_UNSEEN = "(never seen)"
_MANY = -1  # the value has more than one writer: it may come back

# The value, and how many calls have yet to see it, or _MANY.
_Block = tuple[str | None, int]


class _Blocks:
    """What is known of the values beforehand."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._writers = Counter(written(call.input) for call in calls if call.input[0] != "read")
        self._observers: Counter[Any] = Counter()
        self._maybe_observed: set[Any] = set()
        for call in calls:
            for value in seen_by(call.input, call.output):
                if call.ended == NEVER:
                    self._maybe_observed.add(value)
                else:
                    self._observers[value] += 1

    def initial(self) -> _Block:
        return None, (_MANY if self._writers[None] else self._observers[None])

    def step(self, block: _Block, asked: Asked, returned: Any) -> tuple[bool, _Block]:
        value, left = block
        fits, after = register_step(value, asked, returned)
        if not fits:
            return False, block
        if left != _MANY and value in seen_by(asked, returned):
            left -= returned is not None
        if asked[0] == "read" or (asked[0] == "cas" and after == value):
            return True, (value, left)
        return left <= 0, self._begun(after)

    def at_once(self, block: _Block, asked: Asked, returned: Any) -> bool:
        """A read, or an unseen write over a value that no call has yet to see."""
        if asked[0] == "read" or (asked[0] == "cas" and not returned[0]):
            return True
        value, left = block
        return (
            asked[0] == "write"
            and left == 0
            and value not in self._maybe_observed
            and not self._is_seen(asked[1])
        )

    def _is_seen(self, value: Any) -> bool:
        return value in self._observers or value in self._maybe_observed

    def _begun(self, value: str | None) -> _Block:
        if not self._is_seen(value):
            return _UNSEEN, 0
        return value, (_MANY if self._writers[value] > 1 else self._observers[value])


def blocks(calls: Sequence[Call]) -> Model:
    """A model that judges these calls, or part of them that lacks no observer, as REGISTER does."""
    known = _Blocks(calls)
    return Model(known.initial(), known.step, known.at_once)

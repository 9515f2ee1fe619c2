"""The smallest part of a register's history that is not linearizable by itself.

Leaving something out is allowed only where every order that explains the whole also explains the
part; else a read without its write would be "illegal" in any history.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from jepsen_lite.checkers.linearizable.register_model import (
    REGISTER,
    VERSIONED_REGISTER,
    seen_by,
    written,
)
from jepsen_lite.checkers.linearizable.search import (
    NEVER,
    Call,
    Model,
    SearchVerdict,
    check,
    states_when_quiet,
)

_ModelOf = Callable[[Sequence[Call]], Model]
_QUIET_MAX = 20
_TRIALS_MAX = 400
_TRIAL_STEPS_MAX = 50_000


def reduced(model_of: _ModelOf, calls: Sequence[Call]) -> list[Call]:
    """A few calls of these illegal ones that are illegal, in the order of their beginnings."""
    later, stands_for = _after_quiet(model_of, calls)
    kept = sorted(_shortest(model_of, later), key=lambda call: call.began)
    size, trials_left = len(kept), _TRIALS_MAX
    while trials_left > 0:
        size_before = len(kept)
        kept, trials_left = _without_chunks(model_of, kept, stands_for, size, trials_left)
        if size == 1 and len(kept) == size_before:
            break
        size = max(1, size // 2)
    return kept


def _illegal(model_of: _ModelOf, calls: Sequence[Call]) -> bool:
    return check(model_of(calls), calls, _TRIAL_STEPS_MAX).verdict is SearchVerdict.ILLEGAL


def _after_quiet(
    model_of: _ModelOf, calls: Sequence[Call]
) -> tuple[Sequence[Call], Sequence[Call]]:
    """What follows the last moment without open calls at which only one value is possible.

    A write of that value stands for all that came before: it is given too, and must stay.
    """
    asked = [written(call.input) for call in calls if call.input[0] != "read"]
    if model_of(calls) is VERSIONED_REGISTER or len(asked) == len(set(asked)):
        return calls, ()  # a version or a value names its write, which explains more
    for later, values in itertools.islice(states_when_quiet(REGISTER, calls), _QUIET_MAX):
        names = {call.name for call in later}
        value, *others = values
        writes = [
            call for call in calls if call.name not in names and call.input == ("write", value)
        ]
        if writes and not others:
            last = max(writes, key=lambda call: call.ended)
            if last.ended != NEVER and _illegal(model_of, [last, *later]):
                return [last, *later], [last]
    return calls, ()


def _shortest(model_of: _ModelOf, calls: Sequence[Call]) -> list[Call]:
    """What had happened when the history became illegal, which it then stays."""
    moments = sorted({call.ended for call in calls if call.ended != NEVER})
    low, high = 0, len(moments) - 1
    while low < high:
        middle = (low + high) // 2
        if _illegal(model_of, _until(calls, moments[middle])):
            high = middle
        else:
            low = middle + 1
    shortest = _until(calls, moments[high])
    return shortest if _illegal(model_of, shortest) else list(calls)


def _until(calls: Sequence[Call], moment: float) -> list[Call]:
    """What was open at the moment has taken effect, with the answer it got later, or not yet."""
    return [
        call if call.ended <= moment else replace(call, ended=NEVER)
        for call in calls
        if call.began <= moment
    ]


def _without_chunks(
    model_of: _ModelOf,
    kept: list[Call],
    stays: Sequence[Call],
    size: int,
    trials_left: int,
) -> tuple[list[Call], int]:
    """Leave out as many chunks of this size as the verdict allows, the latest ones first."""
    end = len(kept)
    while end > 0 and trials_left > 0:
        smaller = closed([*stays, *kept[: max(0, end - size)], *kept[end:]], kept)
        end -= size
        if len(smaller) < len(kept):
            trials_left -= 1
            if _illegal(model_of, smaller):
                kept = smaller
                end = min(end, len(kept))
    return kept, trials_left


def closed(kept: Sequence[Call], calls: Sequence[Call]) -> list[Call]:
    """The kept calls, and all those that wrote what they saw.

    A read may be left out of any history, and so may a write that no remaining call observed.
    """
    writers: defaultdict[Any, list[Call]] = defaultdict(list)
    for call in calls:
        if call.input[0] != "read":
            writers[written(call.input)].append(call)
    names = {call.name for call in kept}
    new = list(kept)
    while new:
        call = new.pop()
        for value in seen_by(call.input, call.output):
            for writer in writers.get(value, ()):
                if writer.name not in names:
                    names.add(writer.name)
                    new.append(writer)
    return [call for call in calls if call.name in names]

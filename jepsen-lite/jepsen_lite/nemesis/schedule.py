"""Which fault begins when: drawn from a seed before the run, to be read and repeated."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from jepsen_lite.nemesis.base import Fault, Nemesis

FIRST_AT_S = 0.5
GAPS_S = (0.2, 1.0, 2.0)
LENGTHS_S = (0.2, 1.0, 2.0, 4.0)
LENGTH_SHARE_MAX = 0.5
# The first turn of each kind takes so long at least: it is to be felt.
FIRST_TURN_S_MIN = 1.0


def shortest_s(kinds: int) -> float:
    """How long a run must have faults for, so that each kind has its turn."""
    return FIRST_AT_S + kinds * FIRST_TURN_S_MIN


def draw_schedule(
    seed: int, nemeses: Sequence[Nemesis], size: int, seconds: float
) -> tuple[Fault, ...]:
    """Faults that begin and end within `seconds`.

    Every kind has its turn before one has its second. After these first turns different kinds may
    overlap, two of one kind never do. Raises `ValueError` below `shortest_s`.
    """
    if nemeses and seconds < shortest_s(len(nemeses)):
        raise ValueError(f"{seconds:g} s are too few for a turn of each of {len(nemeses)} kinds")
    rng = Random(f"{seed}/faults")
    faults: list[Fault] = []
    free_from_s: dict[str, float] = {}
    turns: list[Nemesis] = []
    waiting = len(nemeses)  # kinds that have had no turn yet
    at_s = FIRST_AT_S
    while nemeses and at_s < seconds:
        turns = turns or rng.sample(list(nemeses), len(nemeses))
        nemesis = turns.pop()
        begin_s = max(at_s, free_from_s.get(nemesis.name, 0.0))
        drawn = nemesis.draw(rng, size)
        length_s = min(rng.choice(LENGTHS_S) * rng.uniform(0.5, 1.5), seconds * LENGTH_SHARE_MAX)
        is_first, waiting = waiting > 0, max(0, waiting - 1)
        # What those need who are still to have their first turn.
        until_s = seconds - waiting * FIRST_TURN_S_MIN
        if is_first:
            length_s = min(max(length_s, FIRST_TURN_S_MIN), until_s - begin_s)
        if begin_s + length_s <= seconds:
            faults.append(drawn.planned(round(begin_s, 3), round(length_s, 3)))
            free_from_s[nemesis.name] = begin_s + length_s
        # The next one begins while this one lasts, now and then.
        overlaps = not is_first and len(nemeses) > 1 and rng.random() < 0.3
        next_s = begin_s + length_s * (rng.random() if overlaps else 1.0) + rng.choice(GAPS_S)
        at_s = min(next_s, until_s) if waiting else next_s
    return tuple(sorted(faults, key=lambda fault: fault.at_s))

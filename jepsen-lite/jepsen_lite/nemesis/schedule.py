"""The schedule of a real run's faults, drawn from a seed before the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from jepsen_lite.faults.kinds import Fault
from jepsen_lite.nemesis.base import Nemesis

FIRST_AT_S = 0.5
GAPS_S = (0.2, 1.0, 2.0)
LENGTHS_S = (0.2, 1.0, 2.0, 4.0)
LENGTH_SHARE_MAX = 0.5
FIRST_LENGTH_S_MIN = 1.0
"""The first fault of each kind lasts at least so long, so that operations meet it."""


@dataclass(frozen=True, slots=True)
class ScheduledFault:
    """A fault, and the name of the nemesis that injects it."""

    nemesis: str
    fault: Fault


def shortest_s(kinds: int) -> float:
    """The shortest faulty phase in which each of so many kinds is injected once."""
    return FIRST_AT_S + kinds * FIRST_LENGTH_S_MIN


def draw_schedule(
    seed: int, nemeses: Sequence[Nemesis], size: int, seconds: float
) -> tuple[ScheduledFault, ...]:
    """Faults that begin and end within `seconds`, in the order of their beginnings.

    Each kind is injected once before any is repeated. After these first faults different kinds may
    overlap; two faults of one kind never do. Raises `ValueError` below `shortest_s`.
    """
    if nemeses and seconds < shortest_s(len(nemeses)):
        raise ValueError(f"{seconds:g} s are too few for one fault of each of {len(nemeses)} kinds")
    rng = Random(f"{seed}/faults")
    faults: list[ScheduledFault] = []
    free_from_s: dict[str, float] = {}
    turns: list[Nemesis] = []
    not_injected = len(nemeses)  # kinds without a fault so far
    at_s = FIRST_AT_S
    while nemeses and at_s < seconds:
        turns = turns or rng.sample(list(nemeses), len(nemeses))
        nemesis = turns.pop()
        begin_s = max(at_s, free_from_s.get(nemesis.name, 0.0))
        drawn = nemesis.draw(rng, size)
        length_s = min(rng.choice(LENGTHS_S) * rng.uniform(0.5, 1.5), seconds * LENGTH_SHARE_MAX)
        is_first, not_injected = not_injected > 0, max(0, not_injected - 1)
        # The rest of the time is reserved for the first faults of the other kinds.
        until_s = seconds - not_injected * FIRST_LENGTH_S_MIN
        if is_first:
            length_s = min(max(length_s, FIRST_LENGTH_S_MIN), until_s - begin_s)
        if begin_s + length_s <= seconds:
            fault = replace(drawn, at_s=round(begin_s, 3), for_s=round(length_s, 3))
            faults.append(ScheduledFault(nemesis.name, fault))
            free_from_s[nemesis.name] = begin_s + length_s
        # Sometimes the next fault begins before this one ends.
        overlaps = not is_first and len(nemeses) > 1 and rng.random() < 0.3
        next_s = begin_s + length_s * (rng.random() if overlaps else 1.0) + rng.choice(GAPS_S)
        at_s = min(next_s, until_s) if not_injected else next_s
    return tuple(sorted(faults, key=lambda each: each.fault.at_s))

"""Long work in bounded steps: a generator that pauses, so that other tasks run in between."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, TypeAlias, TypeVar

STEP_UNITS: Final = 1_024
"""Work in one step, some milliseconds. The unit is a row that is scanned."""

COMMAND_UNITS: Final = 4
"""The cost of a command on one key."""

CHANGE_UNITS: Final = 8
"""The cost of each key that one command deletes."""

Returned = TypeVar("Returned")
Steps: TypeAlias = Generator[None, None, Returned]
"""Work that pauses after each bounded step, and returns its result at the end."""


def run(steps: Steps[Returned]) -> Returned:
    """Run all steps without a pause. Returns the result."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: Returned = done.value
            return result


class Pace:
    """Counts work, to end each step after about `step_units`."""

    __slots__ = ("_step_units", "_units")

    def __init__(self, step_units: int = STEP_UNITS) -> None:
        self._step_units = step_units
        self._units = 0

    def add(self, units: int) -> None:
        """Count work that was done where no pause is possible."""
        self._units += units

    def spend(self, units: int) -> bool:
        """Count work that was done. Returns True if the step is over: pause now."""
        self._units += units
        if self._units < self._step_units:
            return False
        self._units = 0
        return True

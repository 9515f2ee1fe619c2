"""Work in steps, so that whoever drives it can let others have their turn in between."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, TypeAlias, TypeVar

STEP_UNITS: Final = 1_024
"""Work in one step: some milliseconds. The unit is a row that is looked at."""

COMMAND_UNITS: Final = 4
"""What a command on one key costs."""

CHANGE_UNITS: Final = 8
"""What a key costs that is deleted with others."""

Returned = TypeVar("Returned")
Steps: TypeAlias = Generator[None, None, Returned]
"""Work that pauses now and then, and returns its result in the end."""


def run(steps: Steps[Returned]) -> Returned:
    """All steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: Returned = done.value
            return result


class Pace:
    """Counts work and says when a step of about `step_units` is over."""

    __slots__ = ("_step_units", "_units")

    def __init__(self, step_units: int = STEP_UNITS) -> None:
        self._step_units = step_units
        self._units = 0

    def add(self, units: int) -> None:
        """Count work that is done where no pause can be made."""
        self._units += units

    def spend(self, units: int) -> bool:
        """Count work that is done. True: the step is over, pause now."""
        self._units += units
        if self._units < self._step_units:
            return False
        self._units = 0
        return True

"""The marks that several simulations have reached, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from jepsen_lite.sim.coverage.mark import Mark
from jepsen_lite.sim.coverage.marks import MARKS

SEEDS_MIN = 100
"""A default run of so many seeds must reach every expected mark."""
OFTEN = 0.08
"""A mark that this share of the runs reaches is expected; see `unexpected.RARE`."""
NAMES_MAX = 4
"""So many names of marks are in the short form."""


class MarkTotals:
    """How often each mark was reached, and in how many runs."""

    def __init__(self) -> None:
        self.runs = 0
        self._counts: Counter[str] = Counter()
        self._runs_of: Counter[str] = Counter()

    def add(self, marks: Counter[str]) -> None:
        """One more run has reached these."""
        self.runs += 1
        self._counts += marks
        self._runs_of.update(marks.keys())

    @property
    def missing(self) -> Sequence[Mark]:
        """The expected marks that no run has reached."""
        return [
            mark for mark in MARKS.values() if not mark.unexpected and not self._counts[mark.name]
        ]

    @property
    def shortfall(self) -> Sequence[str]:
        """What a default run has left undone; nothing is asked of fewer than `SEEDS_MIN` runs."""
        if self.runs < SEEDS_MIN:
            return []
        return [f"an expected mark was never reached: {mark.name}" for mark in self.missing]

    @property
    def outgrown(self) -> Sequence[str]:
        """The marks that are not expected, but were reached in many runs; fewer than `SEEDS_MIN`
        runs prove nothing.
        """
        runs_min = OFTEN * self.runs
        return [
            name
            for name, mark in MARKS.items()
            if mark.unexpected and self.runs >= SEEDS_MIN and self._runs_of[name] >= runs_min
        ]

    def short(self) -> str:
        """One line: how many were reached, and the first of the expected ones that were not."""
        line = f"marks: {len(self._counts)} of {len(MARKS)} reached"
        names = [mark.name for mark in self.missing]
        if not names:
            return line + ", all of the expected ones among them"
        line += f"; expected and never reached: {'; '.join(names[:NAMES_MAX])}"
        more = len(names) - NAMES_MAX
        return line + (f"; and {more} more (--marks shows all)" if more > 0 else "")

    def table(self) -> str:
        """All marks: those that were reached with count and number of runs, then the others."""
        lines = ["marks reached (count, runs):"]
        lines += [
            f"  {self._counts[name]:>9} {self._runs_of[name]:>5}  {name}"
            for name in MARKS
            if self._counts[name]
        ]
        lines.append("reached often, so that they should be expected (sim/coverage/unexpected.py):")
        lines += [f"  {name}" for name in self.outgrown]
        lines.append("marks never reached:")
        for mark in MARKS.values():
            if not self._counts[mark.name]:
                why = f"not expected: {mark.unexpected}" if mark.unexpected else "EXPECTED"
                lines.append(f"  {mark.name} ({why}). {mark.meaning}")
        return "\n".join(lines)

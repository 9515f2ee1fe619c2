"""The terminal output of a run: its progress and its verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from jepsen_lite.faults.record import FaultRecord
from jepsen_lite.history import History, Kind
from jepsen_lite.store import RunDirectory
from jepsen_lite.verdicts import Finding, Validity

COLOURS = {
    Validity.VALID: "green",
    Validity.INVALID: "red",
    Validity.UNKNOWN: "yellow",
    Validity.VACUOUS: "yellow",
}
PROBLEM_CHARACTERS_MAX = 600
PROBLEMS_SHOWN_MAX = 3


class Display:
    """A line per phase with its bar, and what the operations and faults came to."""

    def __init__(self, console: Console | None = None) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:>6}", table_column=Column(min_width=6, no_wrap=True)),
            BarColumn(bar_width=10),
            TimeElapsedColumn(table_column=Column(min_width=7, no_wrap=True)),
            # What a narrow terminal has no room for is the end of this.
            TextColumn("{task.fields[counts]}", table_column=Column(ratio=1)),
            console=console or Console(stderr=True),
            expand=True,
        )
        self._task: TaskID | None = None
        self._history = History()
        self._counted = 0
        self._kinds: Counter[Kind] = Counter()
        self._faults: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()
        self._progress.stop()

    def follow(self, history: History) -> None:
        self._history = history

    def phase(self, name: str, seconds: float | None) -> None:
        self._close()
        self._task = self._progress.add_task(name, total=seconds, counts="")

    def tick(self) -> None:
        """Called now and then: show how far it is."""
        if self._task is None:
            return
        events = self._history.events
        self._kinds.update(event.kind for event in events[self._counted :])
        self._counted = len(events)
        kinds = " ".join(f"{kind.value} {self._kinds[kind]}" for kind in Kind if self._kinds[kind])
        faults = " ".join(f"{name} {count}" for name, count in self._faults.items())
        elapsed_s = self._progress.tasks[self._task].elapsed
        self._progress.update(
            self._task, completed=elapsed_s, counts=f"{kinds}{'; ' if faults else ''}{faults}"
        )

    def step(self, name: str, done: int, total: int) -> None:
        """The present phase has so many steps, and this one begins."""
        if self._task is not None:
            counts = f"{name} ({done + 1} of {total})"
            self._progress.update(self._task, completed=done, total=total, counts=counts)

    def fault(self, record: FaultRecord) -> None:
        self._faults[record.name] += record.took_effect

    def _close(self) -> None:
        if self._task is not None:
            self.tick()
            task = self._progress.tasks[self._task]
            self._progress.update(self._task, total=task.elapsed, completed=task.elapsed)


def show_verdict(directory: RunDirectory, findings: Sequence[Finding]) -> None:
    """One table of findings, what is wrong in words, and where to read more."""
    console = Console()
    table = Table("checker", "verdict", "", title=str(directory.path))
    for finding in findings:
        numbers = ", ".join(
            f"{name} {value}"
            for name, value in finding.statistics.items()
            if isinstance(value, int | float | str)
        )
        colour = COLOURS[finding.validity]
        table.add_row(finding.checker, f"[{colour}]{finding.validity.value}[/]", numbers)
    console.print(table)
    for finding in findings:
        for problem in finding.problems[:PROBLEMS_SHOWN_MAX]:
            text = problem.text
            if len(text) > PROBLEM_CHARACTERS_MAX:
                text = text[:PROBLEM_CHARACTERS_MAX] + " ..."
            console.print(f"{finding.checker}: {text}", markup=False, highlight=False)
        if len(finding.problems) > PROBLEMS_SHOWN_MAX:
            more = len(finding.problems) - PROBLEMS_SHOWN_MAX
            console.print(f"{finding.checker}: {more} more", markup=False, highlight=False)
    console.print(f"report: {report_of(directory)}", markup=False, soft_wrap=True)


def report_of(directory: RunDirectory) -> str:
    """Write the report; a report that fails must not hide the verdict."""
    from jepsen_lite.report.files import write

    try:
        return str(write(directory.path))
    except Exception as error:  # noqa: BLE001 - see above
        return f"none, it failed with {type(error).__name__}: {error}; the data: {directory.path}"

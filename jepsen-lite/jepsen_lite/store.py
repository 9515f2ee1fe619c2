"""The store of runs: one directory each, its files readable without this program.

`<store>/<name>-<UTC time>/` holds test.json (what was run), history.jsonl, faults.jsonl,
results.json and nodes/*.log; a report is written beside them. `<store>/latest` points at the last.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from jepsen_lite.history import Event, History
from jepsen_lite.verdicts import Finding, overall

LATEST = "latest"
TEST, HISTORY, FAULTS, RESULTS = "test.json", "history.jsonl", "faults.jsonl", "results.json"
MESSAGES = "messages.jsonl"  # of runs whose nodes trace their messages


class RunDirectory:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def logs(self) -> Path:
        return self.path / "nodes"

    def write_test(self, test: Mapping[str, Any]) -> None:
        (self.path / TEST).write_text(json.dumps(test, indent=2) + "\n")

    def test(self) -> Mapping[str, Any]:
        """What was run. Raises OSError or ValueError if this is no run's directory."""
        test: Mapping[str, Any] = json.loads((self.path / TEST).read_text())
        return test

    def add_fault(self, fault: Mapping[str, Any]) -> None:
        with (self.path / FAULTS).open("a") as file:
            file.write(json.dumps(fault) + "\n")

    def faults(self) -> list[Mapping[str, Any]]:
        file = self.path / FAULTS
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def history(self) -> History:
        with (self.path / HISTORY).open() as lines:
            return History.of_lines(lines)

    def write_results(self, findings: Sequence[Finding]) -> None:
        results = {
            "validity": overall(list(findings)),
            "findings": [
                {
                    "checker": finding.checker,
                    "validity": finding.validity,
                    "problems": [
                        {"text": problem.text, "events": list(problem.events)}
                        for problem in finding.problems
                    ],
                    "statistics": finding.statistics,
                }
                for finding in findings
            ],
        }
        (self.path / RESULTS).write_text(json.dumps(results, indent=2) + "\n")

    def validity(self) -> str:
        """The verdict as it was written; "" if there is none yet."""
        try:
            validity: str = json.loads((self.path / RESULTS).read_text())["validity"]
        except (OSError, ValueError, KeyError):
            return ""
        return validity


class WrittenHistory(History):
    """A history that is written to its file line by line, so that it survives a crash."""

    def __init__(self, directory: RunDirectory) -> None:
        super().__init__()
        self._file: TextIO = (directory.path / HISTORY).open("w", buffering=1)

    def append(self, event: Event) -> None:
        super().append(event)
        self._file.write(event.to_json() + "\n")

    def close(self) -> None:
        self._file.close()


class Store:
    """All runs under one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def new_run(self, name: str, now: datetime) -> RunDirectory:
        """An empty directory, to which `latest` points from now on."""
        stamp = now.strftime("%Y%m%dT%H%M%S.%fZ")
        path = self.root / f"{name}-{stamp}"
        path.mkdir(parents=True)
        beside = self.root / f".{LATEST}-{stamp}"
        beside.symlink_to(path.name)
        os.replace(beside, self.root / LATEST)  # at no time is there none
        return RunDirectory(path)

    def runs(self) -> Iterator[RunDirectory]:
        """Every run, the oldest first."""
        if self.root.is_dir():
            found = [each for each in self.root.iterdir() if (each / TEST).is_file()]
            for path in sorted(found, key=_began):
                if not path.is_symlink():
                    yield RunDirectory(path)


def _began(path: Path) -> str:
    """The stamp at the end of its name: it stays when the run is judged again."""
    return path.name.rpartition("-")[2]

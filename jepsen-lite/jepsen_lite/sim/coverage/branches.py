"""Branch coverage of production code by simulated runs, with the library coverage.

Each run writes a data file of its own, so it does not matter in which process it runs.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coverage import Coverage

import raftkv

PACKAGES = ("raft", "kv", "node")
"""Those of raftkv whose branches are counted."""
ROOT = Path(raftkv.__file__).parent
DATA_FILE = "data"


@dataclass(frozen=True, slots=True)
class ModuleBranches:
    """The branches of one module; `never` has those that were not taken, each as two lines of the
    file: where it begins, and where it would go on. A negative line is the end of its function.
    """

    name: str
    branches: int
    taken: int
    never: Sequence[tuple[int, int]]
    lines: Sequence[str]

    @property
    def percentage(self) -> float:
        return 100.0 * self.taken / self.branches if self.branches else 100.0


@contextlib.contextmanager
def recorded(directory: Path) -> Iterator[None]:
    """Record into this directory which branches are taken meanwhile."""
    recorder = _coverage(directory, data_suffix=True)
    recorder.start()
    try:
        yield
    finally:
        recorder.stop()
        recorder.save()


def modules(directory: Path) -> list[ModuleBranches]:
    """What all the runs that were recorded into this directory have taken together."""
    together = _coverage(directory)
    together.combine(strict=True)
    report = directory / "branches.json"
    together.json_report(outfile=str(report))
    files: Mapping[str, Any] = json.loads(report.read_text())["files"]
    return [
        _module(Path(path), found)
        for path, found in sorted(files.items())
        if found["summary"]["num_branches"]
    ]


def table(found: Sequence[ModuleBranches]) -> str:
    """The percentage of each module, and of all together."""
    branches, taken = sum(each.branches for each in found), sum(each.taken for each in found)
    lines = [f"branches of raftkv's {', '.join(PACKAGES)} taken by these runs:"]
    lines += [
        f"  {each.percentage:>5.1f} %  {each.taken:>4} of {each.branches:>4}  {each.name}"
        for each in found
    ]
    share = 100.0 * taken / branches if branches else 100.0
    return "\n".join([*lines, f"  {share:>5.1f} %  {taken:>4} of {branches:>4}  together"])


def never_taken(found: Sequence[ModuleBranches]) -> str:
    """One line per branch that no run has taken, by module."""
    return "".join(
        f"{each.name}:{begin} -> {'end' if end < 0 else end}: {each.lines[begin - 1].strip()}\n"
        for each in found
        for begin, end in each.never
    )


def _module(path: Path, found: Mapping[str, Any]) -> ModuleBranches:
    absolute = path.resolve()
    return ModuleBranches(
        absolute.relative_to(ROOT.parent).as_posix(),
        found["summary"]["num_branches"],
        found["summary"]["covered_branches"],
        [(begin, end) for begin, end in found["missing_branches"]],
        absolute.read_text().splitlines(),
    )


def _coverage(directory: Path, data_suffix: bool | None = None) -> Coverage:
    return Coverage(
        data_file=str(directory / DATA_FILE),
        data_suffix=data_suffix,
        branch=True,
        source=[str(ROOT / package) for package in PACKAGES],
        config_file=False,
        messages=False,
    )

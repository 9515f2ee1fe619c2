"""The verdicts on mutations, in a file to which each run appends."""

from __future__ import annotations

import enum
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


class MutationVerdict(enum.StrEnum):
    """What became of a mutation."""

    TEST = "killed by a test"
    SEED = "killed by a seed"
    TIMEOUT = "killed by a timeout"
    SURVIVED_TESTS = "survived the tests"  # the simulator has not run yet
    SURVIVED = "survived"
    UNREACHED = "not reached"  # by no test and by no seed

    @property
    def killed(self) -> bool:
        """Whether something has noticed the mutation."""
        return self in (MutationVerdict.TEST, MutationVerdict.SEED, MutationVerdict.TIMEOUT)


@dataclass(frozen=True, slots=True)
class MutationResult:
    """The verdict on one mutation. `by` is the test or the seed that noticed, `detail` how."""

    id: str
    diff: str
    verdict: MutationVerdict
    by: str
    detail: str
    tests: int
    seeds: int
    wall_s: float
    commit: str


class ResultsFile:
    """JSON lines: results, and explanations of survivors. The last line on a mutation counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.notes: dict[str, str] = {}
        self._results: dict[str, MutationResult] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            fields = json.loads(line)
            if "note" in fields:
                self.notes[fields["id"]] = fields["note"]
            else:
                fields["verdict"] = MutationVerdict(fields["verdict"])
                self._results[fields["id"]] = MutationResult(**fields)

    def of(self, mutation_id: str, diff: str) -> MutationResult | None:
        """The result for this very change; a result of older code of the same id is none."""
        found = self._results.get(mutation_id)
        return found if found is not None and _change(found.diff) == _change(diff) else None

    def add(self, result: MutationResult) -> None:
        """Append a result."""
        self._results[result.id] = result
        self._append(asdict(result))

    def explain(self, mutation_id: str, text: str) -> None:
        """Append why a survivor changes nothing that is promised."""
        self.notes[mutation_id] = text
        self._append({"id": mutation_id, "note": text})

    def _append(self, fields: dict[str, object]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(fields) + "\n")


def _change(diff: str) -> list[str]:
    """The changed lines without their numbers."""
    return [line for line in diff.splitlines() if not line.startswith("@@")]


def describe_score(results: Iterable[MutationResult], notes: dict[str, str]) -> str:
    """How many were noticed, and by what."""
    results = list(results)
    counts = Counter(each.verdict for each in results)
    killed = sum(each.verdict.killed for each in results)
    explained = sum(not each.verdict.killed and each.id in notes for each in results)
    parts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in MutationVerdict)
    text = f"mutations: {len(results)}; {parts}\nkilled {_share(killed, len(results))}"
    if explained:
        text += (
            f"; without {explained} explained survivors {_share(killed, len(results) - explained)}"
        )
    return text


def _share(part: int, whole: int) -> str:
    return f"{part}/{whole} ({100 * part / whole:.1f} %)" if whole else "0/0"


def survivors_page(results: Iterable[MutationResult], notes: dict[str, str]) -> str:
    """The score and a table of the survivors, as Markdown."""
    results = list(results)
    rows = [
        f"| `{each.id}` | {each.verdict} | {_cell(each.diff)} | {notes.get(each.id, '')} |"
        for each in results
        if not each.verdict.killed
    ]
    head = ["| mutation | verdict | change | explanation |", "|---|---|---|---|"]
    return "\n".join([describe_score(results, notes), "", *head, *rows, ""])


def _cell(diff: str) -> str:
    lines = (line.replace("|", "\\|") for line in _change(diff))
    return "<br>".join(f"`{line[0]} {line[1:].strip()}`" for line in lines)

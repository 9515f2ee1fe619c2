"""The page of a store: its runs, the latest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jepsen_lite.report.page import environment, source
from jepsen_lite.store import RunDirectory, Store


@dataclass(frozen=True, slots=True)
class _Row:
    """`link` is empty where the run has no report."""

    name: str
    validity: str
    began: str
    what: str
    nemeses: str
    seed: str
    link: str


def index(store: Store) -> str:
    """One HTML document. Its links are relative to the store."""
    return (
        environment()
        .get_template("index.html.j2")
        .render(rows=list(_rows(store)), root=store.root.resolve(), style=source("style.css"))
    )


def _rows(store: Store) -> Iterator[_Row]:
    for run in reversed(list(store.runs())):
        yield _row(run)


def _row(run: RunDirectory) -> _Row:
    name = run.path.name
    try:
        test = dict(run.test())
    except (OSError, ValueError, TypeError):
        test = {}
    workloads = test.get("workloads") or test.get("workload") or []
    return _Row(
        name,
        run.validity(),
        str(test.get("began_at", "")).partition(".")[0].replace("T", " "),
        f"{_listed(workloads)} on {test.get('system', '?')}",
        _listed(test.get("nemeses") or []),
        str(test.get("seed", "")),
        f"{name}/report.html" if (run.path / "report.html").is_file() else "",
    )


def _listed(found: object) -> str:
    return ", ".join(map(str, found)) if isinstance(found, list) else str(found)

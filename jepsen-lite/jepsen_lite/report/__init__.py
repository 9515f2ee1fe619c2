"""The report of a run: one HTML file that opens offline, and JUnit beside it.

To read: `record.py` (what a run left), `focus.py` (where to look), `page.py` (what is said).
The page of all runs is `index.py`'s.
"""

from __future__ import annotations

from pathlib import Path

from jepsen_lite.report.index import index
from jepsen_lite.report.junit import junit
from jepsen_lite.report.page import command, facts, page, title
from jepsen_lite.report.record import read


def write(directory: Path) -> Path:
    """Write `report.html` and `junit.xml` into a run's directory; returns the former's path."""
    record = read(directory)
    path = directory / "report.html"
    # Values may hold half a surrogate pair, which no UTF-8 can; show its number.
    path.write_text(page(record), encoding="utf-8", errors="backslashreplace")
    replay = command(record)
    noted = {**facts(record), **({"command": replay} if replay else {})}
    (directory / "junit.xml").write_bytes(junit(record, title(record), noted))
    return path


__all__ = ["index", "write"]

"""The branch coverage of `jepsen-lite sim --branches`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

FILE = "branches.txt"


class BranchReport:
    """Collects what runs record into `data`.

    `text` and the file of the store are there once the block is left.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._directory = tempfile.TemporaryDirectory(prefix="jepsen-lite-branches-")
        self.data = Path(self._directory.name)
        self.text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._directory:
            if error is None and any(self.data.iterdir()):
                self._write()

    def _write(self) -> None:
        from jepsen_lite.sim.coverage.branches import modules, never_taken, table

        found = modules(self.data)
        self._store.mkdir(parents=True, exist_ok=True)
        (self._store / FILE).write_text(never_taken(found))
        self.text = f"{table(found)}\nnever taken: {self._store / FILE}"

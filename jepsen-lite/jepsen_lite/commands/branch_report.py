"""The branch coverage of `jepsen-lite sim --branches`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

FILE = "branches.txt"


class BranchReport:
    """Collects what runs record into `data`; without a store nothing is recorded.

    `text` and the file of the store are there once the block is left.
    """

    def __init__(self, store: Path | None) -> None:
        self._store = store
        self._directory = tempfile.TemporaryDirectory(prefix="jepsen-lite-branches-")
        self.data = Path(self._directory.name) if store is not None else None
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
            if error is None and self._store is not None and self.data is not None:
                self._write(self._store, self.data)

    def _write(self, store: Path, data: Path) -> None:
        from jepsen_lite.sim.coverage.branches import modules, never_taken, table

        if not any(data.iterdir()):
            return
        found = modules(data)
        store.mkdir(parents=True, exist_ok=True)
        (store / FILE).write_text(never_taken(found))
        self.text = f"{table(found)}\nnever taken: {store / FILE}"

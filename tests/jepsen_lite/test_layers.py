"""Only the simulator, its model, the power cuts and the mutants import raftkv's internals."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent.parent / "jepsen-lite" / "jepsen_lite"
INSIDERS = {"sim", "mutants", "model", "power_cuts"}
"""What the model may import, `test_model_independence.py` says."""
OUTSIDE = ("raftkv.client", "raftkv.arguments", "raftkv.errors")


@cache
def imported(path: Path) -> tuple[str, ...]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return tuple(names)


def test_only_insiders_import_more_than_the_client() -> None:
    found = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in PACKAGE.rglob("*.py")
        if not INSIDERS & set(path.relative_to(PACKAGE).parts)
        for name in imported(path)
        if name.startswith("raftkv.") and not name.startswith(OUTSIDE)
    ]
    assert found == []


def test_checkers_import_no_database() -> None:
    found = {name for path in (PACKAGE / "checkers").rglob("*.py") for name in imported(path)}
    assert not {name for name in found if name.startswith("raftkv")}


def test_only_adapters_and_databases_import_the_client_of_raftkv() -> None:
    """Workloads, nemeses, generators and the recorder use the harness's own client protocol."""
    may = {"clients", "db", *INSIDERS}
    found = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in may
        for name in imported(path)
        if name == "raftkv" or name.startswith("raftkv.")
    ]
    assert found == []

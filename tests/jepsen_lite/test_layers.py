"""Only the simulator, its model, the power cuts and the mutants import raftkv's internals."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent.parent / "jepsen-lite" / "jepsen_lite"
INSIDERS = {"sim", "mutants", "model", "power_cuts"}
"""What the model may import, `test_model_independence.py` says."""
OUTSIDE = ("raftkv.client", "raftkv.arguments", "raftkv.errors")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


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


def test_no_class_name_is_defined_twice() -> None:
    homes: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def test_no_constructor_has_more_than_seven_parameters() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}: {len(parameters)}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
        for parameters in [[*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs][1:]]
        if len(parameters) > 7
    ]
    assert found == []

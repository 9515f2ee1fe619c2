"""The attack table of `docs/security.md` names a test for each attempt, and the tests exist."""

from __future__ import annotations

import ast
import re

from tests.docs.names import ROOT

PAGE = ROOT / "docs" / "security.md"
ATTACKS = "tests/server/test_attacks.py"
NAMED = re.compile(r"`(tests/[\w/]+\.py):(test_\w+)`")


def rows() -> list[str]:
    """Those of all tables of the chapter, without their heads."""
    chapter = PAGE.read_text().split("\n## Attacks\n")[1].split("\n## ")[0]
    lines = [line for line in chapter.splitlines() if line.startswith("| ")]
    return [line for line in lines if not line.startswith("| attempt |")]


def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}


def test_each_attempt_names_tests_that_exist() -> None:
    assert len(rows()) > 40
    for row in rows():
        named = NAMED.findall(row)
        assert named, f"no test is named: {row}"
        for path, test in named:
            assert test in functions_of(path), f"{path} has no {test}"


def test_each_test_of_an_attack_has_its_row() -> None:
    text = "\n".join(rows())
    for test in functions_of(ATTACKS):
        assert not test.startswith("test_") or f"`{ATTACKS}:{test}`" in text

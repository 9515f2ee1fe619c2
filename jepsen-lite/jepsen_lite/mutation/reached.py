"""Records which statements of the code run, at little cost.

Before each statement of a function, code is inserted that marks the statement's number. The
numbers count the lines at which such statements begin, over all modules.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from types import CodeType

from jepsen_lite.mutation.candidates import Target
from jepsen_lite.mutation.code_import import CodeOf, change_on_import

MARKS = "_jepsen_lite_marks"


class _MarkInserter(ast.NodeTransformer):
    """Inserts a mark before each statement within functions."""

    def __init__(self, number_of: dict[int, int]) -> None:
        self._number_of = number_of
        self._depth = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if self._depth and not isinstance(node, ast.ClassDef):
            for field in ("body", "orelse", "finalbody"):
                statements = getattr(node, field, None)
                if isinstance(statements, list):
                    setattr(node, field, list(self._marked(statements)))
        return node

    def _marked(self, statements: list[ast.stmt]) -> Iterator[ast.stmt]:
        for statement in statements:
            if not _is_docstring(statement):
                number = self._number_of[statement.lineno]
                mark = ast.parse(f"{MARKS}[{number}] = 1").body[0]
                for inner in ast.walk(mark):
                    ast.copy_location(inner, statement)
                yield mark
            yield statement


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


class ReachedStatements:
    """The marks of all modules of a target, which must not have been imported yet."""

    def __init__(self, target: Target) -> None:
        self.numbers: dict[str, dict[int, int]] = {}
        """The number of each statement: by path, and by the line where it begins."""
        count = 0
        for path in target.modules():
            tree = ast.parse((target.root / path).read_bytes())
            lines = sorted({each.lineno for each in ast.walk(tree) if isinstance(each, ast.stmt)})
            self.numbers[path] = {line: count + at for at, line in enumerate(lines)}
            count += len(lines)
        self._marks = bytearray(count)
        self._none = bytes(count)
        setattr(builtins, MARKS, self._marks)
        change_on_import({path: self._code_of(path) for path in self.numbers})

    def _code_of(self, path: str) -> CodeOf:
        def compiled(source: bytes, filename: str) -> CodeType:
            tree = _MarkInserter(self.numbers[path]).visit(ast.parse(source))
            return compile(tree, filename, "exec", dont_inherit=True)

        return compiled

    def forget(self) -> None:
        """Begin anew."""
        self._marks[:] = self._none

    def reached(self) -> list[int]:
        """The numbers of the statements that ran since the last `forget`."""
        return [number for number, mark in enumerate(self._marks) if mark]

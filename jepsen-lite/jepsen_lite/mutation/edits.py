"""The small edits that make a mutation: what each operator changes, as byte ranges of the source.

A range is replaced in the source itself, so that all other lines keep their numbers.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
NEGATED_BY_COMPARISON = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
ORDER_MATTERS_NOT = {"isinstance", "issubclass", "getattr", "setattr", "hasattr", "cast", "partial"}
"""Calls whose swapped arguments fail at once, or change nothing."""
SYMMETRIC = {"min", "max"}
LOG_METHODS = {"debug", "info", "warning", "error", "critical", "exception", "bind"}


@dataclass(frozen=True, slots=True)
class Edit:
    """One change: `operator` names its kind, the bytes from `start` to `end` become `text`."""

    operator: str
    start: int
    end: int
    text: bytes

    def applied(self, source: bytes) -> bytes:
        """The source with this edit, in as many lines as before."""
        lost = source[self.start : self.end].count(b"\n") - self.text.count(b"\n")
        return source[: self.start] + self.text + b"\n" * lost + source[self.end :]


class SourceRanges:
    """Byte ranges of the nodes of one source."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def start(self, node: ast.expr | ast.stmt) -> int:
        return self._lines[node.lineno - 1] + node.col_offset

    def end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._lines[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: ast.expr | ast.stmt) -> bytes:
        return self.source[self.start(node) : self.end(node)]


def is_log_call(node: ast.AST) -> bool:
    """Whether this is a call of a logger, which decides nothing."""
    match node:
        case ast.Call(func=ast.Attribute(value=value, attr=method)) if method in LOG_METHODS:
            return ast.unparse(value).rpartition(".")[2].strip("_") in {"log", "logger"}
        case _:
            return False


def edits_of(node: ast.AST, ranges: SourceRanges, *, constructs: bool) -> Iterator[Edit]:
    """The edits of this node itself, without those of the nodes in it.

    `constructs`: the node is in a constructor, where a missing attribute fails at once.
    """
    match node:
        case ast.Compare():
            yield from _comparisons(node, ranges)
        case ast.Constant():
            yield from _constants(node, ranges)
        case ast.BoolOp():
            yield from _boolean(node, ranges)
        case ast.BinOp(op=ast.Add() | ast.Sub()):
            yield from _sum(node, ranges)
        case ast.Call():
            yield from _call(node, ranges)
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            yield from _negation(test, ranges)
        case ast.comprehension(ifs=conditions):
            for condition in conditions:
                yield from _negation(condition, ranges)
        case ast.ExceptHandler(body=body):
            yield from _handler(body, ranges)
        case ast.stmt():
            yield from _statement(node, ranges, constructs=constructs)
        case _:
            pass


def _replace(operator: str, node: ast.expr | ast.stmt, text: bytes, ranges: SourceRanges) -> Edit:
    return Edit(operator, ranges.start(node), ranges.end(node), text)


def _between(
    operator: str, before: ast.expr, after: ast.expr, change: tuple[str, str], ranges: SourceRanges
) -> Iterator[Edit]:
    """Replaces the operator's token, which is alone between two expressions."""
    start, old = ranges.end(before), change[0].replace(" ", r"\s+")
    gap = ranges.source[start : ranges.start(after)]
    found = re.search(rb"(?<![\w<>=!])" + old.encode() + rb"(?![\w<>=!])", gap)
    if found and b"#" not in gap:
        new = change[1].encode()
        yield Edit(operator, start + found.start(), start + found.end(), new)


def _comparisons(node: ast.Compare, ranges: SourceRanges) -> Iterator[Edit]:
    for (before, after), kind in zip(
        pairwise([node.left, *node.comparators]), node.ops, strict=True
    ):
        yield from _between("comparison", before, after, COMPARISONS[type(kind)], ranges)


def _constants(node: ast.Constant, ranges: SourceRanges) -> Iterator[Edit]:
    value = node.value
    if isinstance(value, bool):
        yield _replace("flag", node, str(not value).encode(), ranges)
    elif isinstance(value, int):
        for changed in (value + 1, value - 1):
            yield _replace("number", node, f"{changed}".encode(), ranges)
    elif isinstance(value, float):
        yield _replace("number", node, f"{value + 1}".encode(), ranges)


def _boolean(node: ast.BoolOp, ranges: SourceRanges) -> Iterator[Edit]:
    change = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
    for before, after in pairwise(node.values):
        yield from _between("and-or", before, after, change, ranges)


def _sum(node: ast.BinOp, ranges: SourceRanges) -> Iterator[Edit]:
    def is_text(side: ast.expr) -> bool:
        texts = isinstance(side, ast.Constant) and isinstance(side.value, str | bytes)
        return texts or isinstance(side, ast.JoinedStr | ast.List | ast.Tuple | ast.ListComp)

    if is_text(node.left) or is_text(node.right):
        return
    old, new = (r"\+", "-") if isinstance(node.op, ast.Add) else ("-", "+")
    yield from _between("sum", node.left, node.right, (old, new), ranges)


def _call(node: ast.Call, ranges: SourceRanges) -> Iterator[Edit]:
    name = ast.unparse(node.func).rpartition(".")[2]
    if isinstance(node.func, ast.Name) and name in SYMMETRIC:
        yield _replace("min-max", node.func, b"min" if name == "max" else b"max", ranges)
        return
    if name in ORDER_MATTERS_NOT or len(node.args) < 2:
        return
    first, second = node.args[:2]
    starred = isinstance(first, ast.Starred) or isinstance(second, ast.Starred)
    unlike = isinstance(first, ast.Constant) != isinstance(second, ast.Constant)
    if starred or unlike or ast.dump(first) == ast.dump(second):
        return
    start, end = ranges.start(first), ranges.end(second)
    gap = ranges.source[ranges.end(first) : ranges.start(second)]
    if re.fullmatch(rb"\s*,\s*", gap):
        text = ranges.text(second) + gap + ranges.text(first)
        yield Edit("arguments", start, end, text)


def _negation(test: ast.expr, ranges: SourceRanges) -> Iterator[Edit]:
    match test:
        case ast.Constant():
            return
        case ast.Compare(ops=[op]) if isinstance(op, NEGATED_BY_COMPARISON):
            return  # the operator `comparison` makes the same mutation
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield _replace("condition", test, b"(" + ranges.text(operand) + b")", ranges)
        case _:
            negated = b"(not (" + ranges.text(test) + b"))"
            yield _replace("condition", test, negated, ranges)


def _handler(body: list[ast.stmt], ranges: SourceRanges) -> Iterator[Edit]:
    def decides(statement: ast.stmt) -> bool:
        logs = isinstance(statement, ast.Expr) and is_log_call(statement.value)
        return not (logs or isinstance(statement, ast.Pass))

    if any(map(decides, body)):
        yield Edit("handler", ranges.start(body[0]), ranges.end(body[-1]), b"pass")


def _statement(node: ast.stmt, ranges: SourceRanges, *, constructs: bool) -> Iterator[Edit]:
    match node:
        case ast.Expr(value=ast.Constant() | ast.Yield() | ast.YieldFrom()):
            return
        case ast.Expr(value=ast.Await(value=awaited)):
            yield _replace("statement", node, b"pass", ranges)
            if not isinstance(awaited, ast.Call) or "sleep" not in ast.unparse(awaited.func):
                yield _replace("await", node, ranges.text(awaited), ranges)
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]) if constructs:
            return
        case (
            ast.Expr()
            | ast.Assign(targets=[ast.Attribute() | ast.Subscript()])
            | ast.AugAssign()
            | ast.Delete()
            | ast.Raise()
            | ast.Return(value=None)
        ):
            yield _replace("statement", node, b"pass", ranges)
        case ast.Break():
            yield _replace("loop", node, b"continue", ranges)
        case ast.Continue():
            yield _replace("loop", node, b"break", ranges)
        case _:
            pass

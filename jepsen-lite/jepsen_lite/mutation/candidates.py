"""All mutations that can be made of a tree, in a fixed order, and the sample that a seed draws."""

from __future__ import annotations

import ast
import difflib
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jepsen_lite.mutation.edits import Edit, SourceRanges, edits_of, is_log_call

TEXT_METHODS = {"__repr__", "__str__"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Target:
    """The code that is mutated, and the tests that shall notice; paths relative to `root`."""

    root: Path
    code: tuple[str, ...]
    excluded: tuple[str, ...]
    """Folders within `code` that are left out: generated code."""
    tests: tuple[str, ...]

    def modules(self) -> list[str]:
        """The paths of the modules that are mutated, sorted."""
        return [
            path
            for folder in self.code
            for path in sorted(
                str(each.relative_to(self.root)) for each in (self.root / folder).rglob("*.py")
            )
            if not path.startswith(self.excluded)
        ]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One mutation of one module.

    `line` is where its innermost statement begins. `at_import` is true if the changed code runs
    when its module is imported: a constant, a default.
    """

    id: str
    path: str
    line: int
    edit: Edit
    at_import: bool

    def mutated(self, source: bytes) -> bytes:
        """The whole module with the mutation."""
        return self.edit.applied(source)

    def diff(self, source: bytes) -> str:
        """The changed lines, as a unified diff without its header."""
        before, after = source.decode().splitlines(), self.mutated(source).decode().splitlines()
        lines = list(difflib.unified_diff(before, after, lineterm="", n=0))[2:]
        return "\n".join(line.rstrip() for line in lines if line != "+")


class _Collector:
    """Walks one module and collects its edits, each with the function that it is in."""

    def __init__(self, path: str, source: bytes) -> None:
        self._path = path
        self._ranges = SourceRanges(source)
        self._numbers: Counter[str] = Counter()
        self.candidates: list[Candidate] = []

    def module(self, tree: ast.Module) -> None:
        for statement in tree.body:
            self._visit(statement, (), statement.lineno, in_function=False)

    def _visit(
        self, node: ast.AST, names: tuple[str, ...], line: int, *, in_function: bool
    ) -> None:
        if _decides_nothing(node):
            return
        if isinstance(node, ast.stmt):
            line = node.lineno
        constructs = bool(names) and names[-1] == "__init__"
        if in_function or not isinstance(node, ast.stmt):
            for edit in edits_of(node, self._ranges, constructs=constructs):
                self._add(edit, names, line, in_function=in_function)
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._function(node, names, line, in_function=in_function)
            case ast.ClassDef():
                for statement in node.body:
                    self._visit(statement, (*names, node.name), line, in_function=in_function)
            case ast.AnnAssign(value=value):
                if value is not None:
                    self._visit(value, names, line, in_function=in_function)
            case _:
                for child in ast.iter_child_nodes(node):
                    self._visit(child, names, line, in_function=in_function)

    def _function(
        self, node: Function, names: tuple[str, ...], line: int, *, in_function: bool
    ) -> None:
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self._visit(default, (*names, node.name), line, in_function=in_function)
        for statement in node.body:
            self._visit(statement, (*names, node.name), line, in_function=True)

    def _add(self, edit: Edit, names: tuple[str, ...], line: int, *, in_function: bool) -> None:
        place = f"{self._path}:{'.'.join(names) or '-'}:{edit.operator}"
        self._numbers[place] += 1
        mutation_id = f"{place}:{self._numbers[place]}"
        self.candidates.append(
            Candidate(mutation_id, self._path, line, edit, at_import=not in_function)
        )


def _decides_nothing(node: ast.AST) -> bool:
    """Whether a mutation in here could change no behaviour that matters."""
    match node:
        case ast.JoinedStr() | ast.Assert() | ast.Import() | ast.ImportFrom():
            return True
        case ast.FunctionDef(name=name, decorator_list=decorators):
            return name in TEXT_METHODS or any(
                ast.unparse(each).rpartition(".")[2] in {"overload", "abstractmethod"}
                for each in decorators
            )
        case ast.ClassDef(bases=bases):
            parents = {ast.unparse(each).rpartition(".")[2] for each in bases}
            return bool(parents & {"Enum", "IntEnum", "StrEnum", "Protocol"})
        case ast.If(test=test):
            return ast.unparse(test).endswith("TYPE_CHECKING")
        case ast.Expr(value=value):
            return is_log_call(value)
        case _:
            return is_log_call(node)


def candidates_of(path: str, source: bytes) -> list[Candidate]:
    """All mutations of one module, in the order of the source."""
    collector = _Collector(path, source)
    collector.module(ast.parse(source))
    return collector.candidates


def enumerate_candidates(target: Target) -> list[Candidate]:
    """All mutations of the target."""
    return list(_enumerated(target))


def _enumerated(target: Target) -> Iterator[Candidate]:
    for path in target.modules():
        yield from candidates_of(path, (target.root / path).read_bytes())


def sample(candidates: list[Candidate], count: int, seed: int) -> list[Candidate]:
    """Those of the least hashes under this seed, in the order of the candidates.

    A candidate's hash is of its id only. So after a change elsewhere the same seed draws almost
    the same sample.
    """

    def rank(candidate: Candidate) -> bytes:
        return hashlib.sha256(f"{seed}/mutation/{candidate.id}".encode()).digest()

    drawn = {each.id for each in sorted(candidates, key=rank)[:count]}
    return [each for each in candidates if each.id in drawn]

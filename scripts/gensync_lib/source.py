"""Reads classes, functions and their members from source, without importing it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

Definition = ast.FunctionDef | ast.AsyncFunctionDef


class Source:
    """A module of the asynchronous client."""

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        path = root / Path(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        self.tree = ast.parse(path.read_text())
        self.imports: dict[str, str] = {}
        self.defined: dict[str, ast.stmt] = {}
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    self.imports[alias.asname or alias.name] = node.module
            elif isinstance(node, ast.ClassDef | Definition):
                self.defined[node.name] = node
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    if isinstance(target, ast.Name):
                        self.defined[target.id] = node


@dataclass(frozen=True)
class Member:
    """A method, property or documented attribute, and the module that defines it."""

    source: Source
    name: str
    definition: Definition | None  # None: an attribute
    annotation: ast.expr | None  # what it returns or is
    docstring: str

    def is_decorated(self, name: str) -> bool:
        """Whether this decorator stands on it."""
        found = self.definition.decorator_list if self.definition else []
        return any(isinstance(each, ast.Name) and each.id == name for each in found)


class Reader:
    """Finds classes, functions and their members, without importing them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sources: dict[str, Source] = {}

    def source(self, name: str) -> Source:
        """The module of this name."""
        if name not in self._sources:
            self._sources[name] = Source(self._root, name)
        return self._sources[name]

    def find(self, original: str) -> tuple[Source, ast.stmt]:
        """The module and the definition of "module:name"."""
        module, _, name = original.partition(":")
        source = self.source(module)
        return source, source.defined[name]

    def members(self, source: Source, cls: ast.ClassDef) -> dict[str, Member]:
        """Its members and those of its bases, the first of each name."""
        found = {member.name: member for member in _own_members(source, cls)}
        for base in cls.bases:
            name = base.id if isinstance(base, ast.Name) else ""
            home = source if name in source.defined else None
            if home is None and source.imports.get(name, "").startswith("raftkv."):
                home = self.source(source.imports[name])
            definition = home.defined.get(name) if home else None
            if home is not None and isinstance(definition, ast.ClassDef):
                found = self.members(home, definition) | found
        return found


def _own_members(source: Source, cls: ast.ClassDef) -> Iterator[Member]:
    for node, after in zip(cls.body, [*cls.body[1:], None], strict=True):
        if isinstance(node, Definition):
            docstring = ast.get_docstring(node) or ""
            yield Member(source, node.name, node, node.returns, docstring)
        elif (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            docstring = str(after.value.value)
            yield Member(source, node.target.id, None, node.annotation, docstring)


class Synchronous(ast.NodeTransformer):
    """Turns an annotation into that of the twin, and collects the names in it."""

    def __init__(self, twins: Mapping[str, str]) -> None:
        self.names: set[str] = set()
        self._twins = twins

    def visit_Name(self, node: ast.Name) -> ast.expr:
        name = self._twins.get(node.id, node.id)
        self.names.add(name)
        return ast.Name(name)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        match ast.unparse(node.value):
            case "Coroutine":
                return self._visited(inner[2])
            case "Awaitable":
                return self._visited(inner[0])
            case "AsyncIterator" | "AsyncGenerator":
                return ast.Subscript(self._visited(ast.Name("Iterator")), self._visited(inner[0]))
        return self._visited_inside(node)

    def _visited(self, node: ast.expr) -> ast.expr:
        visited: ast.expr = self.visit(node)
        return visited

    def _visited_inside(self, node: ast.expr) -> ast.expr:
        visited = self.generic_visit(node)
        assert isinstance(visited, ast.expr)
        return visited

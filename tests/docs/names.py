"""The names of files, classes and functions that a document refers to in code spans."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACES = (ROOT / "raftkv", ROOT, ROOT / "jepsen-lite")
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
IN_FILE = re.compile(r"([\w./-]+\.(?:py|proto|toml|md|txt|sh))(?::([\w.]+))?")
FOLDER = re.compile(r"[\w-][\w./-]*/")
MEMBER = re.compile(r"[A-Z]\w*[a-z]\w*\.[_a-z]\w*")


def spans(text: str) -> list[str]:
    """All code spans of a Markdown text, those in code blocks left out."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [" ".join(span.split()) for span in SPAN.findall(prose)]


def find(path: str) -> Path | None:
    """The file or folder of that name, below raftkv/, the repository or jepsen-lite/."""
    return next((place / path for place in PLACES if (place / path).exists()), None)


@cache
def defined_in(path: Path) -> frozenset[str]:
    """The classes and functions of a module, and `Class.member` for all that a class has."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            found.update(_targets(node))
        elif isinstance(node, ast.ClassDef):
            found.add(node.name)
            for member in ast.walk(node):
                if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                    found.add(f"{node.name}.{member.name}")
                elif isinstance(member, (ast.Assign, ast.AnnAssign)):
                    found.update(f"{node.name}.{name}" for name in _targets(member))
    return frozenset(found)


def _targets(node: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)] + [
        target.attr for target in targets if isinstance(target, ast.Attribute)
    ]


@cache
def defined_anywhere() -> frozenset[str]:
    """What any module of raftkv defines, generated code left out."""
    modules = (ROOT / "raftkv").rglob("*.py")
    return frozenset().union(
        *(defined_in(path) for path in modules if "rpc" not in path.relative_to(ROOT).parts)
    )


def missing(span: str) -> str:
    """What of this code span does not exist; an empty text if all does or it names no code."""
    if named := IN_FILE.fullmatch(span):
        path = find(named[1])
        if path is None:
            return f"`{span}`: there is no file {named[1]}"
        if named[2] and named[2] not in defined_in(path):
            return f"`{span}`: {named[1]} does not define {named[2]}"
    elif "/" in span and FOLDER.fullmatch(span):
        if find(span) is None:
            return f"`{span}`: there is no such folder"
    elif MEMBER.fullmatch(span) and span not in defined_anywhere():
        return f"`{span}`: no module defines it"
    return ""

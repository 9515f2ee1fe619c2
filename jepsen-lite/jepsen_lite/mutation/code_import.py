"""Changes the code of modules as they are imported; the files stay as they are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

CodeOf = Callable[[bytes, str], CodeType]
"""Compiles the source of a file; is given the source and the file's name."""


class _ChangedLoader(SourceFileLoader):
    """Loads one module from the code that `code_of` makes of its source."""

    def __init__(self, spec: ModuleSpec, code_of: CodeOf) -> None:
        assert spec.origin is not None
        super().__init__(spec.name, spec.origin)
        self._code_of = code_of

    def get_code(self, fullname: str) -> CodeType:
        return self._code_of(self.get_data(self.path), self.path)


class _ChangedModules(MetaPathFinder):
    """Finds the modules that are to be changed, before any other finder."""

    def __init__(self, changes: Mapping[str, CodeOf]) -> None:
        self._changes = changes

    def find_spec(
        self, fullname: str, path: object = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._changes:
            return None
        spec = PathFinder.find_spec(fullname, path, target)  # type: ignore[arg-type]
        if spec is not None:
            spec.loader = _ChangedLoader(spec, self._changes[fullname])
        return spec


def module_name(path: str) -> str:
    """`a/b/__init__.py` is the module `a.b`."""
    parts = Path(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def change_on_import(changes: Mapping[str, CodeOf]) -> None:
    """From now on, the modules of these paths are imported with the changed code.

    None of them may have been imported before.
    """
    by_name = {module_name(path): code_of for path, code_of in changes.items()}
    early = sorted(by_name.keys() & sys.modules.keys())
    if early:
        raise RuntimeError(f"imported too early to be changed: {', '.join(early)}")
    sys.meta_path.insert(0, _ChangedModules(by_name))

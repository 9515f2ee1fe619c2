"""Plants a mutation in the functions of this process; no file is changed."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType

_Place = tuple[str, str, int]
"""File, qualified name and first line of a function."""


class Unplantable(Exception):
    """The mutation is not within a function that exists, or changes what the function closes over.

    It must be planted while its module is imported.
    """


class LiveFunctions:
    """The functions of some files that exist in this process, whoever refers to them."""

    def __init__(self, root: Path) -> None:
        gc.collect()
        self._found: dict[_Place, list[FunctionType]] = {}
        for each in gc.get_objects():
            if type(each) is FunctionType:
                code = each.__code__
                # Lambdas of one line can't be told apart.
                if code.co_filename.startswith(f"{root}/") and code.co_name != "<lambda>":
                    self._found.setdefault(_place(code), []).append(each)

    def plant(self, file: Path, source: bytes, mutated: bytes) -> None:
        """Give the functions that the mutation changes their new code."""
        before = dict(_functions(compile(source, str(file), "exec", dont_inherit=True)))
        after = dict(_functions(compile(mutated, str(file), "exec", dont_inherit=True)))
        replaced = 0
        for place, code in after.items():
            if place in before and before[place] == code:
                continue
            for function in self._found.get(place, ()):
                try:
                    function.__code__ = code
                except ValueError as error:
                    raise Unplantable(str(error)) from error
                replaced += 1
        if not replaced:
            raise Unplantable(f"no function of {file.name} has the mutated code")


def _functions(code: CodeType) -> Iterator[tuple[_Place, CodeType]]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield _place(each), each
            yield from _functions(each)


def _place(code: CodeType) -> _Place:
    return code.co_filename, code.co_qualname, code.co_firstlineno

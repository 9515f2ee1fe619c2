"""What the synchronous twins of the client's objects have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def twin_of(method: Callable[..., object]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """The twin's contract is that of the asynchronous method, word for word."""

    def with_its_docstring(twin: Callable[P, R]) -> Callable[P, R]:
        twin.__doc__ = method.__doc__
        return twin

    return with_its_docstring

"""Wrapped functions of production code, for as long as a simulation runs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

Look: TypeAlias = Callable[..., Any]
"""Called in the place of a function, with that function first and then with its arguments. It must
call the function with these arguments, once, and return its result.
"""


class Wraps:
    """Functions to be wrapped, in the order in which they were given."""

    def __init__(self) -> None:
        self._looks: list[tuple[Any, str, Look]] = []

    def around(self, owner: Any, name: str) -> Callable[[Look], Look]:
        """Wrap the function of this class or module in the decorated one."""

        def take(look: Look) -> Look:
            self._looks.append((owner, name, look))
            return look

        return take

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """While this is entered, the functions are wrapped.

        Raises `KeyError` if the owner itself does not define a function of that name.
        """
        originals: list[tuple[Any, str, Any]] = []
        try:
            for owner, name, look in self._looks:
                original = vars(owner)[name]
                originals.append((owner, name, original))
                setattr(owner, name, _wrapped(original, look))
            yield
        finally:
            for owner, name, original in reversed(originals):
                setattr(owner, name, original)


def _wrapped(original: Callable[..., Any], look: Look) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return look(original, *args, **kwargs)

    return wrapped

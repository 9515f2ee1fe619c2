"""A planted bug as a value, and how it is patched into raftkv."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias
from unittest import mock

Patch: TypeAlias = tuple[object, str, Any]
"""(whose, attribute, what stands there instead)"""


@contextlib.contextmanager
def patched(patches: Iterable[Patch]) -> Iterator[None]:
    """While this is entered, the patches are in place."""
    with contextlib.ExitStack() as stack:
        for owner, attribute, replacement in patches:
            stack.enter_context(mock.patch.object(owner, attribute, replacement))
        yield


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug, and the runs that must not let it through: `seeds` of each of `scenarios`."""

    name: str
    row: str
    """The kind of fault, in a few words."""
    story: str
    make: Callable[[], list[Patch]]
    scenarios: tuple[str, ...]
    seeds: range
    caught_by: str
    """What gives this bug away: a regular expression that a problem must match. Any other problem
    may as well be a patch that does not fit production code any more.
    """
    in_replicas: bool = False
    """Whether only replicas in other processes show it: they have the bug as well, and apply the
    logs of the runs.
    """

    @property
    def reference(self) -> str:
        """MODULE:NAME, by which another process finds it."""
        return f"{self.make.__module__}:{self.make.__name__}"

    def planted(self) -> contextlib.AbstractContextManager[None]:
        """While this is entered, raftkv has the bug."""
        return patched(self.make())


def mutant(
    row: str,
    *scenarios: str,
    caught_by: str,
    seeds: range = range(1, 11),
    in_replicas: bool = False,
) -> Callable[[Callable[[], list[Patch]]], Mutant]:
    """Make a mutant of a function that returns the patches; name and docstring are the mutant's."""

    def make(function: Callable[[], list[Patch]]) -> Mutant:
        return Mutant(
            function.__name__.replace("_", "-"),
            row,
            " ".join((function.__doc__ or "").split()),
            function,
            scenarios,
            seeds,
            caught_by,
            in_replicas,
        )

    return make

"""Finds every container that an object of raftkv keeps: queues, buffers, dicts, sets and heaps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sized
from itertools import islice
from typing import TypeVar

Part = TypeVar("Part")

CONTAINERS = (dict, list, set, deque)
ELEMENTS_MAX = 200
"""Of each container so many elements are searched for containers of their own."""


def containers(root: object, packages: tuple[str, ...]) -> Iterator[tuple[str, Sized]]:
    """Each container that `root` keeps, or that it reaches through objects whose classes are of
    these packages, with its name: the class and the attribute that keeps it.
    """
    for name, found in _reached(root, packages):
        if isinstance(found, CONTAINERS):
            yield name, found


def part_of(root: object, packages: tuple[str, ...], kind: type[Part]) -> Part:
    """The first object of this class that `root` reaches in the same way."""
    return next(found for _, found in _reached(root, packages) if isinstance(found, kind))


def _reached(root: object, packages: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    seen: set[int] = set()
    waiting: deque[tuple[str, object]] = deque([("", root)])
    while waiting:
        name, found = waiting.popleft()
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield name, found
        if isinstance(found, CONTAINERS):
            elements = [*found, *found.values()] if isinstance(found, dict) else found
            waiting += [(name, each) for each in islice(elements, 2 * ELEMENTS_MAX)]
        elif isinstance(found, tuple):
            waiting += [(name, each) for each in found]
        elif found is root or type(found).__module__.startswith(packages):
            waiting += _attributes(found)


def _attributes(found: object) -> Iterator[tuple[str, object]]:
    """Also those that a base class keeps in slots."""
    owner = type(found)
    slots = [
        name
        for base in owner.__mro__
        for name in _names(base.__dict__.get("__slots__", ()))
        if not name.startswith("__")
    ]
    names = [*getattr(found, "__dict__", {}), *slots]
    for name in names:
        value = getattr(found, name, None)
        if value is not None:
            yield f"{owner.__name__}.{name}", value


def _names(slots: str | tuple[str, ...]) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)

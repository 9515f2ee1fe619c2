"""Finds every container that an object of raftkv keeps: queues, buffers, dicts, sets and heaps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sized
from typing import Any, TypeAlias

Container: TypeAlias = "dict[Any, Any] | list[Any] | set[Any] | deque[Any]"

CONTAINERS = (dict, list, set, deque)
ELEMENTS_MAX = 200
"""Of each container so many elements are searched for containers of their own."""


def containers(root: object, packages: tuple[str, ...]) -> Iterator[tuple[str, Sized]]:
    """Each container that `root` keeps, or that it reaches through objects whose classes are of
    these packages, with its name: the class and the attribute that keeps it.
    """
    seen: set[int] = set()
    waiting: deque[tuple[str, object]] = deque([("", root)])
    while waiting:
        name, found = waiting.popleft()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, CONTAINERS):
            yield name, found
            elements = found.values() if isinstance(found, dict) else found
            waiting += [(name, each) for each, _ in zip(elements, range(ELEMENTS_MAX), strict=False)]
            if isinstance(found, dict):
                waiting += [(name, each) for each, _ in zip(found, range(ELEMENTS_MAX), strict=False)]
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

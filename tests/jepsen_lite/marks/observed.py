"""Marks that a piece of test code reaches."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from jepsen_lite.sim.coverage.marks import MARKS
from jepsen_lite.sim.coverage.wraps import Wraps


@contextlib.contextmanager
def observed(*observers: Callable[..., Any]) -> Iterator[Counter[str]]:
    """Count what these observers see while this is entered."""
    counts: Counter[str] = Counter()
    wraps = Wraps()
    for observer in observers:
        observer(wraps, lambda name: counts.update([MARKS[name].name]))
    with wraps.installed():
        yield counts

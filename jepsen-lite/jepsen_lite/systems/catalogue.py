"""All systems, by the names that the command line knows them by, and what can be done to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jepsen_lite.systems.base import System
from jepsen_lite.systems.raftkv import Raftkv

OF_NETWORKS = frozenset({"partition", "delay", "reset"})
OF_OPERATORS = frozenset({"transfer", "compaction", "snapshot", "member"})
OF_DISKS = frozenset({"slow-disk", "full-disk", "bit-flip"})
OF_CLOCKS = frozenset({"clock"})
OF_PROCESSES = frozenset({"kill", "pause", "restart"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cluster is to live: `endpoints` of one that lives already."""

    directory: Path
    logs: Path
    nodes: int
    endpoints: str = ""


@dataclass(frozen=True, slots=True)
class SystemKind:
    """`workloads` None: all there are."""

    summary: str
    make: Callable[[Place], System]
    nemeses: frozenset[str]
    workloads: frozenset[str] | None = None


SYSTEMS: dict[str, SystemKind] = {
    "raftkv": SystemKind(
        "raftkv as processes of this machine",
        lambda place: Raftkv(place.directory, place.logs, place.nodes),
        OF_PROCESSES | OF_NETWORKS | OF_OPERATORS | OF_DISKS | OF_CLOCKS,
    ),
}

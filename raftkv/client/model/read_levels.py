"""How fresh a read has to be. Knows no node and no wire."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from raftkv.arguments import TIMEOUT_S_MAX, require_number, shown, to_instance
from raftkv.errors import InvalidRequest


class ReadLevel(enum.Enum):
    """What a read promises; `bounded(max_staleness)` makes one more level."""

    # Includes every write that was acknowledged before the call.
    LINEARIZABLE = "linearizable"
    # The same without asking anybody, if the cluster is configured for it and its clocks run at
    # about the same rate; where it is not, the same as linearizable.
    LEADER_LEASE = "leader_lease"
    # Includes whatever this client has seen: its writes, what it has read or watched, its locks.
    SESSION = "session"
    # Whatever the asked node has; works without a majority.
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Bounded:
    """The level that `bounded` makes."""

    max_staleness: float  # seconds

    def __post_init__(self) -> None:
        require_number(self.max_staleness, "max_staleness")
        if not 0.001 <= self.max_staleness <= TIMEOUT_S_MAX:
            raise InvalidRequest(
                f"max_staleness is {shown(self.max_staleness)}; give at least 0.001 s and at most"
                f" {TIMEOUT_S_MAX} s, or read with ReadLevel.LINEARIZABLE",
                field="max_staleness",
            )


Level: TypeAlias = ReadLevel | Bounded


def to_level(level: Level) -> Level:
    """A level. Raises `InvalidRequest` for anything else, its name as text as well."""
    return to_instance(level, (ReadLevel, Bounded), "level", "a ReadLevel, or raftkv.bounded(...)")


def bounded(max_staleness: float) -> Bounded:
    """No older than so many seconds; else the read raises `TooStale`.

    Counted by the node that answers, from when it sent its last question that a majority of the
    cluster confirmed: a node that is cut off gets older, whatever it hears.
    """
    return Bounded(max_staleness)

"""Read levels: how fresh the state that a read sees must be."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from raftkv.arguments import TIMEOUT_S_MAX, require_number, shown, to_instance
from raftkv.errors import InvalidRequest


class ReadLevel(enum.Enum):
    """What a read guarantees; `bounded(max_staleness)` makes one more level."""

    # Includes every write that was acknowledged before the call.
    LINEARIZABLE = "linearizable"
    # As linearizable, without asking a majority, if the cluster is configured for leader leases
    # and its clocks run at about the same rate; where it is not configured, linearizable.
    LEADER_LEASE = "leader_lease"
    # Includes what this client has seen: its writes, its reads and watches, its locks.
    SESSION = "session"
    # The state of the node that is asked; works without a majority.
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
    """A level that reads a state at most so many seconds old; else the read raises `TooStale`.

    The answering node counts from when it sent the last request for its state's age that a majority
    of the cluster confirmed. So the age of a node that is cut off grows.
    """
    return Bounded(max_staleness)

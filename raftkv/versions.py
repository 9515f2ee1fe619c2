"""Which cluster versions this program can take part in, and what each of them changed.

The cluster version is replicated (an entry of kind VERSION): it decides what entries mean and how
members talk, so that all members change over at the same entry. The leader raises it once all
members have reported that they can (`node/leader_maintenance.py`).

0   the data directories of raftkv 0.1.0, without running hash and disk ids: all nodes are stopped
    and started as this program, and their first leader raises the version
1   the log has a running hash, members have disk ids
2   commands have a budget of rows, leases and deletions a bound of keys; deletions and ranges have
    pages; sessions, idempotency keys and what is remembered of both are bounded; expired leases,
    idempotency keys and old versions are removed by entries of the leader's that carry nothing else
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class VersionRange:
    """The cluster versions `minimum` .. `maximum`, both inclusive."""

    minimum: int
    maximum: int

    def __contains__(self, version: int) -> bool:
        return self.minimum <= version <= self.maximum

    def __str__(self) -> str:
        return f"{self.minimum} to {self.maximum}"


SUPPORTED = VersionRange(0, 2)
"""What this program can take part in."""

HASHED = 1
"""From this version on the log has a running hash."""

BOUNDED = 2
"""From this version on what one command or caller can make the state machine do is bounded."""

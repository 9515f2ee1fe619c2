"""The cluster versions that this program supports, and the changes of each.

The cluster version is replicated (an entry of kind VERSION). It decides what entries mean and which
protocol members use, so all members change over at the same entry. The leader raises it when all
members have reported that they support the new one (`node/leader_maintenance.py`).

0   the data directories of raftkv 0.1.0, without running hash and disk ids: all nodes are stopped
    and started as this program, and their first leader raises the version
1   the log has a running hash, members have disk ids
2   commands have a budget of rows, and leases and deletions a bound of keys; deletions and ranges
    have pages; sessions, idempotency keys and their results are bounded; expired leases,
    idempotency keys and old versions are removed by upkeep entries of the leader
3   users, roles and tokens; submissions have the id of their user, leases and idempotency keys
    belong to users
4   the state has a running hash, and members compare theirs
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


SUPPORTED = VersionRange(0, 4)
"""The cluster versions that this program supports."""

HASHED = 1
"""From this version on the log has a running hash."""

BOUNDED = 2
"""From this version on the work and the memory that one command or client can cause is bounded."""

AUTHENTICATED = 3
"""From this version on there are users with roles, and authentication can be enabled."""

COMPARED = 4
"""From this version on the state has a running hash, which members compare."""

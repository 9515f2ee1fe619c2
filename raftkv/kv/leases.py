"""Leases: who lives until when, and what ends with them. Time is what entries say it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from sortedcontainers import SortedList

from raftkv.errors import InvalidRequest, LeaseExists, LeaseNotFound
from raftkv.kv.limits import LEASE_TTL_MS_MAX, LEASE_TTL_MS_MIN
from raftkv.kv.meta import Meta
from raftkv.kv.mvcc import Writer
from raftkv.kv.overlay import Overlay
from raftkv.kv.records import lease_key, pack_lease, prefix_end, split_lease, unpack_lease
from raftkv.kv.store import Family

_LEASE_ID_BITS: Final = 63
_LEASE_ID_STEP: Final = 0x9E3779B97F4A7C15


def chosen_lease(ordinal: int) -> int:
    """The id of the ordinal-th lease (from 1) whose id the store chooses.

    The odd factor runs through all positive ids before one repeats, far from the small numbers
    that people choose themselves: an id must never mean a second lease while somebody
    still retries commands in the session of the first.
    """
    return ordinal * _LEASE_ID_STEP % (1 << _LEASE_ID_BITS)


class _Lease(NamedTuple):
    ttl_ms: int
    deadline_ms: int


class Leases:
    """The living leases. In memory whole; the store's rows are what a restart builds it from."""

    def __init__(self, overlay: Overlay, meta: Meta) -> None:
        self._overlay = overlay
        self._meta = meta
        self._rows = overlay.changes[Family.LEASES]
        self._leases: dict[int, _Lease] = {}
        self._deadlines = SortedList()
        for key, row in overlay.scan(Family.LEASES, b"", None):
            lease, found = split_lease(key), _Lease(*unpack_lease(row))
            self._leases[lease] = found
            self._deadlines.add((found.deadline_ms, lease))

    def __contains__(self, lease: object) -> bool:
        return lease in self._leases

    def __iter__(self) -> Iterator[int]:
        """The ids, the next to expire first."""
        return (lease for _, lease in self._deadlines)

    def require(self, lease: int, advice: str = "; grant a new one") -> None:
        """Raise `LeaseNotFound`, which ends with the advice, unless the lease lives."""
        if lease not in self._leases:
            raise LeaseNotFound(
                f"lease {lease} does not exist: it was never granted, was revoked or has expired"
                + advice,
                lease=lease,
            )

    def next_deadline_ms(self) -> int | None:
        """When the next lease expires, in cluster time."""
        return self._deadlines[0][0] if self._deadlines else None

    def time_to_live(self, lease: int) -> tuple[int, int] | None:
        """(left_ms, granted_ttl_ms), None if there is no such lease."""
        found = self._leases.get(lease)
        if found is None:
            return None
        return max(found.deadline_ms - self._meta.time_ms, 0), found.ttl_ms

    def keys(self, lease: int) -> list[bytes]:
        """What is attached to the lease, sorted."""
        prefix = lease_key(lease)
        rows = self._overlay.scan(Family.LEASE_KEYS, prefix, prefix_end(prefix))
        return [row[len(prefix) :] for row, _ in rows]

    def grant(self, lease: int, ttl_ms: int) -> tuple[int, int]:
        """Start a lease (0: under an id of the store's choice); (id, granted ttl_ms)."""
        if ttl_ms > LEASE_TTL_MS_MAX:
            raise InvalidRequest(
                f"lease_grant.ttl_ms {ttl_ms} is over the limit of {LEASE_TTL_MS_MAX}; "
                "ask for a shorter time and renew the lease",
                ttl_ms_max=LEASE_TTL_MS_MAX,
            )
        if lease in self._leases:
            raise LeaseExists(
                f"lease {lease} is already granted; choose another id, or 0 to be given one",
                lease=lease,
            )
        while not lease or lease in self._leases:
            self._meta.leases_granted += 1
            lease = chosen_lease(self._meta.leases_granted)
        ttl_ms = max(ttl_ms, LEASE_TTL_MS_MIN)
        self._set(lease, ttl_ms)
        return lease, ttl_ms

    def renew(self, lease: int) -> int:
        """Let the lease live for its whole ttl from now, which is returned."""
        self.require(lease)
        found = self._leases[lease]
        self._deadlines.remove((found.deadline_ms, lease))
        self._set(lease, found.ttl_ms)
        return found.ttl_ms

    def end(self, lease: int, writer: Writer) -> None:
        """Delete the lease's keys in the writer's revision, in their order, and the lease."""
        for key in self.keys(lease):
            record = writer.get(key)
            if record is not None:
                writer.delete(key, record)
        found = self._leases.pop(lease)
        self._deadlines.remove((found.deadline_ms, lease))
        self._rows[lease_key(lease)] = None

    def expired(self) -> int | None:
        """The lease to end first now that its deadline has come, None if none has."""
        if not self._deadlines or self._deadlines[0][0] > self._meta.time_ms:
            return None
        lease: int = self._deadlines[0][1]
        return lease

    def _set(self, lease: int, ttl_ms: int) -> None:
        deadline_ms = self._meta.time_ms + ttl_ms
        self._leases[lease] = _Lease(ttl_ms, deadline_ms)
        self._deadlines.add((deadline_ms, lease))
        self._rows[lease_key(lease)] = pack_lease(ttl_ms, deadline_ms)

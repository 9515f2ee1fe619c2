"""Leases: their deadlines in cluster time, and the keys that are deleted with them.

A lease expires for its owner at its deadline. Its keys are deleted later: by the next entry before
the cluster version BOUNDED, and by the leader's upkeep entries from then on. In between the lease
exists, but is not living.
"""

from __future__ import annotations

from itertools import islice
from typing import Final, NamedTuple

from sortedcontainers import SortedList

from raftkv.errors import (
    InvalidRequest,
    LeaseExists,
    LeaseNotFound,
    Overloaded,
    PermissionDenied,
    TooManyKeys,
)
from raftkv.kv.budget import Budget
from raftkv.kv.limits import (
    LEASE_KEYS_MAX,
    LEASE_TTL_MS_MAX,
    LEASE_TTL_MS_MIN,
    LEASES_MAX,
)
from raftkv.kv.meta import Meta
from raftkv.kv.mvcc import Writer
from raftkv.kv.overlay import REMOVED_AT_ONCE_MIN, Overlay
from raftkv.kv.pace import CHANGE_UNITS, Steps
from raftkv.kv.records import lease_key, pack_lease, split_lease, unpack_lease
from raftkv.kv.store import Family
from raftkv.versions import BOUNDED
from raftkv.wire.ranges import prefix_end

_LEASE_ID_BITS: Final = 63
_LEASE_ID_STEP: Final = 0x9E3779B97F4A7C15


def chosen_lease(ordinal: int) -> int:
    """The id of the ordinal-th lease (from 1) whose id the store chooses.

    The odd factor runs through all positive ids before one repeats, far from the small numbers
    that operators choose themselves. An id must never be given to a second lease while a client
    still retries commands in the session of the first.
    """
    return ordinal * _LEASE_ID_STEP % (1 << _LEASE_ID_BITS)


class LeaseSizes:
    """The number of keys attached to each lease: counted on first use, then kept up to date.

    The sizes are those of an overlay; `below` are the sizes of its base.
    """

    def __init__(self, overlay: Overlay, below: LeaseSizes | None = None) -> None:
        self._overlay = overlay
        self._below = below
        self._sizes: dict[int, int] = {}

    def of(self, lease: int) -> int:
        """The number of keys of the lease now, at most `LEASE_KEYS_MAX` + 1."""
        size = self._known(lease)
        if size is None:
            prefix = lease_key(lease)
            rows = self._overlay.scan(Family.LEASE_KEYS, prefix, prefix_end(prefix))
            size = sum(1 for _ in islice(rows, LEASE_KEYS_MAX + 1))
            # A larger lease dates from an older cluster version. Its size stays unknown, because
            # two nodes must never count differently.
            if size <= LEASE_KEYS_MAX:
                self._sizes[lease] = size
        return size

    def changed(self, lease: int, by: int) -> None:
        """The number of keys has changed `by` so many."""
        size = self._known(lease)
        if size is not None:
            self._sizes[lease] = size + by

    def created(self, lease: int) -> None:
        """The lease has just been granted and has no keys."""
        self._sizes[lease] = 0

    def forget(self, lease: int) -> None:
        """The lease has ended."""
        self._sizes.pop(lease, None)

    def absorb(self, above: LeaseSizes) -> None:
        """Take over the sizes of an overlay on top of this one."""
        self._sizes.update(above._sizes)

    def _known(self, lease: int) -> int | None:
        size = self._sizes.get(lease)
        if size is None and self._below is not None:
            return self._below._known(lease)
        return size


class _Lease(NamedTuple):
    ttl_ms: int
    deadline_ms: int
    owner: int
    """The id of the user to whom the lease was granted, 0 if it was granted without one."""


class Principal(NamedTuple):
    """Who sent the commands that are being run."""

    user: int
    """The user's id, 0 for none."""
    everything: bool
    """Whether leases of other users are open to the caller: root's, or without authentication."""


ANYONE: Final = Principal(0, everything=True)


class Leases:
    """All leases, in memory. A restart rebuilds them from the rows of the store."""

    def __init__(self, overlay: Overlay, meta: Meta) -> None:
        self._overlay = overlay
        self._meta = meta
        self.sizes = LeaseSizes(overlay)
        self._rows = overlay.changes[Family.LEASES]
        self._leases: dict[int, _Lease] = {}
        self.principal = ANYONE
        self._deadlines = SortedList()
        for key, row in overlay.scan(Family.LEASES, b"", None):
            lease, found = split_lease(key), _Lease(*unpack_lease(row))
            self._leases[lease] = found
            self._deadlines.add((found.deadline_ms, lease))

    def __len__(self) -> int:
        return len(self._leases)

    def __contains__(self, lease: object) -> bool:
        """Whether the lease is living."""
        found = self._leases.get(lease)  # type: ignore[call-overload]
        return found is not None and found.deadline_ms > self._meta.time_ms

    def require(self, lease: int, advice: str = "; grant a new one") -> None:
        """Raise `LeaseNotFound`, with the advice at its end, unless the lease is living, and
        `PermissionDenied` if it belongs to another user than the caller.
        """
        if lease not in self:
            raise LeaseNotFound(
                f"lease {lease} does not exist: it was never granted, was revoked or has expired"
                + advice,
                lease=lease,
            )
        if not self.is_open(lease):
            raise PermissionDenied(
                f"lease {lease} belongs to another user; only its owner and root may use it",
                lease=lease,
                missing=f"the lease {lease}",
            )

    def is_open(self, lease: int) -> bool:
        """Whether a living lease belongs to the caller, to no user, or the caller is root."""
        principal = self.principal
        return principal.everything or self._leases[lease].owner in (0, principal.user)

    def require_room(self, lease: int, sizes: LeaseSizes) -> None:
        """Raise what `require` raises, and `TooManyKeys` if the lease is full."""
        self.require(lease)
        if self._meta.cluster_version >= BOUNDED and sizes.of(lease) >= LEASE_KEYS_MAX:
            raise TooManyKeys(
                f"lease {lease} has {LEASE_KEYS_MAX} keys, as many as one may: its end deletes them"
                " in one revision; attach this key to another lease",
                keys_max=LEASE_KEYS_MAX,
            )

    def next_deadline_ms(self) -> int | None:
        """When the next lease expires, in cluster time."""
        return self._deadlines[0][0] if self._deadlines else None

    def grant(self, lease: int, ttl_ms: int) -> tuple[int, int]:
        """Start a lease (0: the store chooses the id). Returns (id, granted ttl_ms)."""
        if ttl_ms > LEASE_TTL_MS_MAX:
            raise InvalidRequest(
                f"lease_grant.ttl_ms {ttl_ms} is over the limit of {LEASE_TTL_MS_MAX}; "
                "ask for a shorter time and renew the lease",
                ttl_ms_max=LEASE_TTL_MS_MAX,
            )
        if lease in self:
            raise LeaseExists(
                f"lease {lease} is already granted; choose another id, or 0 to be given one",
                lease=lease,
            )
        if len(self._leases) >= LEASES_MAX and self._meta.cluster_version >= BOUNDED:
            raise Overloaded(
                f"there are {LEASES_MAX} leases, as many as there may be; use one lease for more"
                " keys, or wait until some have ended",
                retry_after_s=1.0,
            )
        while not lease or lease in self._leases:
            self._meta.leases_granted += 1
            lease = chosen_lease(self._meta.leases_granted)
        ttl_ms = max(ttl_ms, LEASE_TTL_MS_MIN)
        self._set(lease, ttl_ms, self.principal.user)
        self.sizes.created(lease)
        return lease, ttl_ms

    def renew(self, lease: int) -> int:
        """Extend the lease by its whole ttl from now. Returns the ttl."""
        self.require(lease)
        found = self._leases[lease]
        self._deadlines.remove((found.deadline_ms, lease))
        self._set(lease, found.ttl_ms, found.owner)
        return found.ttl_ms

    def end(self, lease: int, writer: Writer, budget: Budget) -> Steps[bool]:
        """Delete the lease's keys in the writer's revision, in their order, and the lease.

        Returns False if the budget did not allow to delete all keys. The lease is then no longer
        living, and `expired` continues to return it.
        """
        prefix = lease_key(lease)
        attached: list[tuple[bytes, bytes]] = []
        whole = True
        for row, _ in self._overlay.scan(Family.LEASE_KEYS, prefix, prefix_end(prefix)):
            key = row[len(prefix) :]
            record = writer.get(key)
            if record is None:
                continue
            if len(attached) >= budget.deletions_left or len(record) > budget.replaced_left:
                whole = False
                break
            budget.count_replaced(len(record))
            attached.append((key, record))
            if budget.pace.spend(1):
                yield
        budget.deletions_left -= len(attached)
        for key, record in attached:
            writer.delete(key, record)
            if budget.pace.spend(CHANGE_UNITS):
                yield
        found = self._leases.pop(lease)
        self._deadlines.remove((found.deadline_ms, lease))
        if whole:
            self._rows[prefix] = None
            self._overlay.effects.append(prefix)
            self.sizes.forget(lease)
            if len(attached) >= REMOVED_AT_ONCE_MIN:
                rows = [prefix + key for key, _ in attached]
                self._overlay.removes(Family.LEASE_KEYS, rows)
        else:
            deadline_ms = min(found.deadline_ms, self._meta.time_ms)
            self._put(lease, _Lease(found.ttl_ms, deadline_ms, found.owner))
        return whole

    def is_ending(self, lease: int) -> bool:
        """Whether the lease has expired and not all of its keys are deleted yet."""
        return lease in self._leases and lease not in self

    def expired(self) -> int | None:
        """The expired lease with the earliest deadline, None if no lease has expired."""
        if not self._deadlines or self._deadlines[0][0] > self._meta.time_ms:
            return None
        lease: int = self._deadlines[0][1]
        return lease

    def _set(self, lease: int, ttl_ms: int, owner: int) -> None:
        self._put(lease, _Lease(ttl_ms, self._meta.time_ms + ttl_ms, owner))

    def _put(self, lease: int, value: _Lease) -> None:
        self._leases[lease] = value
        self._deadlines.add((value.deadline_ms, lease))
        key = lease_key(lease)
        self._rows[key] = row = pack_lease(*value)
        self._overlay.effects += (key, row)

"""How many keys are attached to each lease: counted when it is first asked for, then kept up."""

from __future__ import annotations

from itertools import islice

from raftkv.kv.limits import LEASE_KEYS_MAX
from raftkv.kv.overlay import Overlay
from raftkv.kv.records import lease_key
from raftkv.kv.store import Family
from raftkv.wire.ranges import prefix_end


class LeaseSizes:
    """Sizes of leases as an overlay has them. `below` are those of its base."""

    def __init__(self, overlay: Overlay, below: LeaseSizes | None = None) -> None:
        self._overlay = overlay
        self._below = below
        self._sizes: dict[int, int] = {}

    def of(self, lease: int) -> int:
        """How many keys the lease has now; more than `LEASE_KEYS_MAX` count as one more."""
        size = self._known(lease)
        if size is None:
            prefix = lease_key(lease)
            rows = self._overlay.scan(Family.LEASE_KEYS, prefix, prefix_end(prefix))
            size = sum(1 for _ in islice(rows, LEASE_KEYS_MAX + 1))
            # A larger one dates from an older cluster version. Its size stays unknown, for two
            # nodes must never count differently.
            if size <= LEASE_KEYS_MAX:
                self._sizes[lease] = size
        return size

    def changed(self, lease: int, by: int) -> None:
        """A key has been attached or taken away."""
        size = self._known(lease)
        if size is not None:
            self._sizes[lease] = size + by

    def created(self, lease: int) -> None:
        """The lease has just been granted: nothing is attached to it."""
        self._sizes[lease] = 0

    def forget(self, lease: int) -> None:
        """The lease has ended."""
        self._sizes.pop(lease, None)

    def absorb(self, above: LeaseSizes) -> None:
        """The overlay above has become a part of this one's."""
        self._sizes.update(above._sizes)

    def _known(self, lease: int) -> int | None:
        size = self._sizes.get(lease)
        if size is None and self._below is not None:
            return self._below._known(lease)
        return size

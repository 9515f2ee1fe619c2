"""Leases: a time to live by cluster time, and the keys that end with it."""

from __future__ import annotations

from dataclasses import dataclass, field

from jepsen_lite.model.bounds import LEASE_TTL_MIN_MS, Bounds
from jepsen_lite.model.keys import Draft, Keys
from jepsen_lite.model.refusals import Refusal


@dataclass(slots=True)
class Lease:
    """A granted lease; it is over when cluster time is past `deadline_ms`."""

    ttl_ms: int
    deadline_ms: int


@dataclass(slots=True)
class Leases:
    """All leases that are granted, also those that are over and not yet removed."""

    bounds: Bounds
    granted: dict[int, Lease] = field(default_factory=dict)
    last_chosen: int = 0
    time_ms: int = 0

    def is_alive(self, lease: int) -> bool:
        found = self.granted.get(lease)
        return found is not None and self.time_ms <= found.deadline_ms

    def check_alive(self, lease: int) -> None:
        if not self.is_alive(lease):
            raise Refusal("LEASE_NOT_FOUND")

    def check_attachable(self, draft: Draft, lease: int, key: bytes) -> None:
        """A key may be attached to this lease (0: to none)."""
        if not lease:
            return
        self.check_alive(lease)
        if len(draft.keys.living) + len(draft.changed) < self.bounds.keys_per_lease:
            return
        attached = {each.key for each in draft.range(b"", b"\0") if each.lease == lease}
        if len(attached | {key}) > self.bounds.keys_per_lease:
            raise Refusal("TOO_MANY_KEYS", keys_max=self.bounds.keys_per_lease)

    def choose(self) -> int:
        """The id of a lease for which the caller names none."""
        self.last_chosen += 1
        while self.last_chosen in self.granted:
            self.last_chosen += 1
        return self.last_chosen

    def grant(self, lease: int, ttl_ms: int) -> Lease:
        """The lease, which is not granted yet, lives from now on."""
        ttl_ms = max(ttl_ms, LEASE_TTL_MIN_MS)
        self.granted[lease] = Lease(ttl_ms, self.time_ms + ttl_ms)
        return self.granted[lease]

    def renew(self, lease: int) -> Lease:
        self.check_alive(lease)
        found = self.granted[lease]
        found.deadline_ms = self.time_ms + found.ttl_ms
        return found

    def over(self) -> list[int]:
        """The leases that are over, in the order of their ends."""
        ended = [each for each in self.granted if not self.is_alive(each)]
        return sorted(ended, key=lambda each: (self.granted[each].deadline_ms, each))


def attached_keys(keys: Keys, lease: int) -> list[bytes]:
    """The keys that are attached to a lease, sorted."""
    return [each.key for each in keys.present() if each.lease == lease]

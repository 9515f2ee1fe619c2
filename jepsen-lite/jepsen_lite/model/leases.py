"""Leases: a time to live by cluster time, and the keys that end with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from jepsen_lite.model.bounds import LEASE_TTL_MAX_MS, LEASE_TTL_MIN_MS, Bounds
from jepsen_lite.model.keys import Draft, Keys, Version
from jepsen_lite.model.refusals import Refusal

CHOSEN_STEP: Final = 0x9E3779B97F4A7C15
"""The n-th id that the store chooses is n times this, modulo 2^63."""


@dataclass(slots=True)
class Lease:
    """A granted lease; it is over when cluster time has reached `deadline_ms`."""

    ttl_ms: int
    deadline_ms: int
    owner: int = 0
    """The user to whom it was granted, 0 if it was granted without one."""


@dataclass(slots=True)
class Leases:
    """All leases that are granted, also those that are over and not yet removed."""

    bounds: Bounds
    granted: dict[int, Lease] = field(default_factory=dict)
    chosen: int = 0
    """How many ids the store has chosen itself."""
    time_ms: int = 0
    caller: int = 0
    """The user who has sent the command that runs, 0 for none."""
    all_open: bool = True
    """Whether the caller may use the leases of other users."""

    def is_alive(self, lease: int) -> bool:
        found = self.granted.get(lease)
        return found is not None and self.time_ms < found.deadline_ms

    def is_open(self, lease: int) -> bool:
        """The caller may use the lease, which is granted."""
        return self.all_open or self.granted[lease].owner in (0, self.caller)

    def check_usable(self, lease: int) -> None:
        if not self.is_alive(lease):
            raise Refusal("LEASE_NOT_FOUND")
        if not self.is_open(lease):
            raise Refusal("PERMISSION_DENIED")

    def check_attachable(self, draft: Draft, lease: int, key: bytes, *, bounded: bool) -> None:
        """A key may be attached to this lease (0: to none)."""
        if not lease:
            return
        self.check_usable(lease)
        if not bounded or len(draft.keys.living) + len(draft.changed) < self.bounds.keys_per_lease:
            return
        keys = {each.key for each in draft.range(b"", b"\0") if each.lease == lease}
        if len(keys | {key}) > self.bounds.keys_per_lease:
            raise Refusal("TOO_MANY_KEYS", keys_max=self.bounds.keys_per_lease)

    def grant(self, lease: int, ttl_ms: int, *, bounded: bool) -> int:
        """A lease lives from now on (0: one with an id that the store chooses). Returns the id."""
        if ttl_ms > LEASE_TTL_MAX_MS:
            raise Refusal("INVALID_REQUEST")
        if self.is_alive(lease):
            raise Refusal("LEASE_EXISTS")
        if bounded and len(self.granted) >= self.bounds.leases:
            raise Refusal("OVERLOADED")
        while not lease or lease in self.granted:
            self.chosen += 1
            lease = self.chosen * CHOSEN_STEP % (1 << 63)
        ttl_ms = max(ttl_ms, LEASE_TTL_MIN_MS)
        self.granted[lease] = Lease(ttl_ms, self.time_ms + ttl_ms, self.caller)
        return lease

    def renew(self, lease: int) -> Lease:
        self.check_usable(lease)
        found = self.granted[lease]
        found.deadline_ms = self.time_ms + found.ttl_ms
        return found

    def over(self) -> list[int]:
        """The leases that are over, in the order of their ends."""
        ended = [each for each in self.granted if not self.is_alive(each)]
        return sorted(ended, key=lambda each: (self.granted[each].deadline_ms, each))


def attached(keys: Keys, lease: int) -> list[Version]:
    """The keys that are attached to a lease, sorted."""
    return [each for each in keys.present() if each.lease == lease]

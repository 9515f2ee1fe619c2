"""Planted bugs in promises with a clock in them: the clock is read when an answer arrives, where
the promise counts from the moment at which its request was sent.
"""

from __future__ import annotations

from jepsen_lite.mutants.mutant import Patch, mutant
from raftkv.client.coordination.lease import KeptLease, KeptLeases

ROW = "time counted from the answer, not from its request"


@mutant(ROW, "slow-answers", caught_by="trusts lease .* but the lease expired")
def lease_trusted_from_the_answer() -> list[Patch]:
    """A holder trusts its lease from the moment when the answer to a renewal arrives. The store
    counts from when it applied the renewal, so with slow answers it ends the lease first.
    """
    keep, trust_from = KeptLeases.keep, KeptLease.trust_from

    def keep_from_now(self: KeptLeases, lease: int, ttl_s: float, _: float) -> KeptLease:
        return keep(self, lease, ttl_s, self.loop.time())

    def trust_from_now(self: KeptLease, _: float) -> None:
        trust_from(self, self.loop.time())

    return [(KeptLeases, "keep", keep_from_now), (KeptLease, "trust_from", trust_from_now)]


MUTANTS = (lease_trusted_from_the_answer,)

"""Planted bugs in promises with a clock in them: the clock is read when an answer arrives, where
the promise counts from the moment at which its request was sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jepsen_lite.mutants.mutant import Patch, mutant
from raftkv.client.coordination.lease import KeptLease, KeptLeases
from raftkv.node.clocks import LeaderLease
from raftkv.node.read_barriers import Barriers, ReadBarriers

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


@mutant(ROW, "slow-answers", caught_by="^staleness: ")
def staleness_from_the_answer() -> list[Patch]:
    """A node's state counts as fresh from the arrival of the read index, which the leader took
    earlier.
    """
    set_fresh = ReadBarriers._set_fresh

    def set_fresh_now(self: ReadBarriers, asked_at_s: float | None) -> None:
        set_fresh(self, None if asked_at_s is None else asyncio.get_running_loop().time())

    return [(ReadBarriers, "_set_fresh", set_fresh_now)]


@mutant(
    ROW,
    "slow-answers",
    caught_by="serves a linearizable read at entry",
    seeds=range(1, 41),
)
def leader_lease_from_the_answer() -> list[Patch]:
    """A leader's lease begins when a majority's answers arrive. Its followers count from when they
    received the question.
    """
    confirm = LeaderLease.confirm

    def confirm_now(self: LeaderLease, asked_at_s: float | None) -> None:
        confirm(self, None if asked_at_s is None else asyncio.get_running_loop().time())

    return [(LeaderLease, "confirm", confirm_now)]


@mutant(ROW, "slow-answers", caught_by="^staleness: ")
def freshness_from_the_last_request() -> list[Patch]:
    """A read index is asked for again and again; its answer, which may be that to the first
    request, counts from the last one.
    """
    ask = Barriers.ask

    def ask_anew(
        self: Barriers, context: int, read_index: Callable[[int], bool], now_s: float
    ) -> None:
        self.asked_at_s = None
        ask(self, context, read_index, now_s)

    return [(Barriers, "ask", ask_anew)]


MUTANTS = (
    lease_trusted_from_the_answer,
    staleness_from_the_answer,
    leader_lease_from_the_answer,
    freshness_from_the_last_request,
)

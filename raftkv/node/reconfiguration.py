"""Membership changes at the leader: when one may be proposed, and whether it was committed."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from raftkv.errors import (
    DeadlineExceeded,
    MembershipRefused,
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    ShuttingDown,
    Unavailable,
)
from raftkv.node import membership_changes
from raftkv.node.config import NodeConfig
from raftkv.node.driver import Driver
from raftkv.raft.entry import Membership
from raftkv.raft.membership import enter, require_majorities
from raftkv.raft.view import RaftView


class Reconfiguration:
    """Changes the membership at the leader, one change at a time. At all others every method
    raises `NotLeader` or `NoLeader`.
    """

    def __init__(self, driver: Driver, config: NodeConfig) -> None:
        self._driver = driver
        self._raft = driver.core
        self._answer_timeout_s = config.election_timeout_s_max
        self._log = structlog.get_logger("raftkv.node").bind(node=driver.core.node_id)

    async def change(
        self, change: membership_changes.MembershipChange, deadline: float, *, force: bool = False
    ) -> Membership:
        """Propose, then wait until the final membership is committed; returns it.

        Raises `MembershipRefused` and `MemberUnknown` if nothing was proposed, `OutcomeUnknown` if
        the change may be made yet. `force` leaves out the count of majorities.
        """
        require_leader(self._raft)
        raft = self._raft
        if not force:
            await self._await_majorities(change, deadline)
        target, term = change.target(raft.membership), raft.current_term
        if force and change.newcomer:
            self._require_caught_up(change.newcomer, acknowledging=True)
        self._driver.propose_membership(target, force=force)
        self._log.info(
            "membership_change",
            term=term,
            change=type(change).__name__,
            voters=sorted(target.voters),
            learners=sorted(target.learners),
            forced=force,
        )
        await self._await_decision(term, deadline)
        if not (self._settled() and change.done(raft.membership)):
            raise OutcomeUnknown(
                "leadership changed during the change of membership; look at the member list"
            )
        return raft.membership

    async def replace(
        self, change: membership_changes.Replace, deadline: float, *, force: bool
    ) -> Membership:
        """As `change`; what was done before is not done again."""
        await self._confirm_leadership(deadline)
        if change.done_before(self._raft.membership):
            return self._raft.membership
        return await self.change(change, deadline, force=force)

    async def join(self, claim: membership_changes.Claim, deadline: float) -> Membership:
        """As `change`, for the start of an added node.

        A repeated claim changes nothing. A claim during another change waits for the end of it: the
        starting node can't know of that change.
        """
        await self._confirm_leadership(deadline)
        claim.require_able(self._driver.machine.cluster_version)
        claim.require_allowed(self._raft.membership)
        await self._await_other_changes(deadline)
        claim.require_allowed(self._raft.membership)
        if claim.done(self._raft.membership):
            return self._raft.membership
        # The voters stay as they are, and a node that starts by itself could add no --force.
        return await self.change(claim, deadline, force=True)

    # ---- before it is proposed -------------------------------------------------------

    async def _await_majorities(
        self, change: membership_changes.MembershipChange, deadline: float
    ) -> None:
        """Return once enough members for the change have acknowledged *since it was requested*: an
        earlier acknowledgement may be that of a node that has died since.

        They have an election timeout for it. Raises `MembershipRefused` with the arithmetic.
        """
        raft, now = self._raft, asyncio.get_running_loop().time()
        asked_tick, term = raft.ticks_led, raft.current_term

        def refusal() -> MembershipRefused | None:
            present, acknowledging = raft.membership, raft.acknowledging(asked_tick)
            try:
                require_majorities(present, enter(present, change.target(present)), acknowledging)
                if change.newcomer:
                    up = change.newcomer in acknowledging
                    self._require_caught_up(change.newcomer, acknowledging=up)
            except MembershipRefused as refused:
                return refused
            return None

        def answered() -> bool:
            return not raft.leads or raft.current_term != term or refusal() is None

        change.target(raft.membership)  # what is never possible is refused at once
        timeout_s = min(self._answer_timeout_s, (deadline - now) / 2)
        with suppress(DeadlineExceeded):
            await self._driver.until(answered, now + timeout_s)
        require_leader(raft)
        if raft.current_term != term:
            raise Unavailable("leadership changed before anything was proposed; try again")
        refused = refusal()
        if refused is not None:
            raise refused

    def _require_caught_up(self, node_id: int, *, acknowledging: bool) -> None:
        progress = self._raft.progress.get(node_id)
        if progress is not None:
            membership_changes.require_caught_up(
                node_id, progress, self._raft.log.last_index, acknowledging=acknowledging
            )

    async def _confirm_leadership(self, deadline: float) -> None:
        """Return if no later leader exists: then this node has the latest membership."""
        require_leader(self._raft)
        await self._driver.read_barrier(deadline)
        require_leader(self._raft)

    async def _await_other_changes(self, deadline: float) -> None:
        raft = self._raft

        def over() -> bool:
            return not raft.leads or (self._settled() and not raft.transferee)

        try:
            await self._driver.until(over, deadline)
        except DeadlineExceeded:
            raise DeadlineExceeded(
                "another change of membership is under way; try again after it"
            ) from None
        require_leader(raft)

    # ---- after it was proposed -------------------------------------------------------

    async def _await_decision(self, term: int, deadline: float) -> None:
        def decided() -> bool:
            return self._settled() or self._raft.current_term != term

        try:
            await self._driver.until(decided, deadline)
        except (DeadlineExceeded, ShuttingDown):
            raise OutcomeUnknown(
                "the change of membership was proposed, but not seen committed in time; look at"
                " the member list"
            ) from None

    def _settled(self) -> bool:
        return self._raft.membership_committed and not self._raft.membership.joint


def require_leader(raft: RaftView) -> None:
    """Raises `NotLeader` with the leader's address, or `NoLeader`, at all others."""
    if raft.leads:
        return
    leader = raft.membership.addresses.get(raft.leader_id)
    if leader is None:
        raise NoLeader("no leader is known, and only a leader can do this")
    raise NotLeader(
        f"only the leader does this: node {raft.leader_id} at {leader.client}",
        leader_id=raft.leader_id,
        leader_address=leader.client,
    )

"""Handing leadership on: to a voter of the operator's choice, or to the most up-to-date one."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from raftkv.errors import DeadlineExceeded, MembershipRefused, Unavailable
from raftkv.raft.raft import Raft

if TYPE_CHECKING:
    from raftkv.node.driver import Driver


async def hand_over(driver: Driver, to: int, deadline: float) -> int:
    """Make `to` (0: the most up-to-date other voter) the leader, from the leader; who is.

    Raises `MembershipRefused` if there is no such voter, `Unavailable` if it does not take over.
    """
    raft = driver.raft
    if not to:
        candidates = sorted(raft.membership.voters - {raft.node_id})
        to = max(candidates, key=lambda peer: raft.progress[peer].match_index, default=0)
    if not raft.transfer_leadership(to):
        raise MembershipRefused(
            f"node {to} is no other voter, so it can't lead" if to else "there is no other voter"
        )
    log = structlog.get_logger("raftkv.node").bind(node=raft.node_id)
    log.info("leadership_transfer", to=to, term=raft.current_term)
    driver.wake()

    def decided() -> bool:
        return raft.transferee == 0 if raft.leads else raft.leader_id != 0

    with suppress(DeadlineExceeded):
        await driver.until(decided, deadline)
    if raft.leader_id != to:
        raise Unavailable(f"node {to} did not take over; {_who_leads(raft)}")
    return to


def _who_leads(raft: Raft) -> str:
    if not raft.leader_id:
        return "no leader is known"
    return f"node {raft.leader_id} {'still ' if raft.leads else ''}leads"

"""Leadership transfer (dissertation 3.10): at an operator's request, and before a node with
damaged data or a wrong state leaves service.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import structlog

from raftkv.errors import (
    DamagedData,
    DeadlineExceeded,
    MembershipRefused,
    OutOfService,
    RaftkvError,
    ShuttingDown,
    StorageError,
    Unavailable,
)
from raftkv.node.read_barriers import ReadBarriers
from raftkv.node.run_loop import RunLoop
from raftkv.raft.raft import Raft
from raftkv.storage.damage import damage_of, quarantine_advice, rebuild_advice

TRANSFER_ELECTION_TIMEOUTS_MAX = 2
"""A withdrawing leader tries a transfer for this long. Then the others elect a leader anyway."""


async def transfer_leadership(raft: Raft, run: RunLoop, to: int, deadline: float) -> int:
    """Make `to` (0: the most up-to-date other voter) the leader; returns the new leader.

    This node must lead. Raises `MembershipRefused` if there is no such voter, `Unavailable` if it
    does not take over in time.
    """
    if not to:
        candidates = sorted(raft.membership.voters - {raft.node_id})
        to = max(candidates, key=lambda peer: raft.progress[peer].match_index, default=0)
    if not raft.transfer_leadership(to):
        raise MembershipRefused(
            f"node {to} is no other voter, so it can't lead" if to else "there is no other voter"
        )
    log = structlog.get_logger("raftkv.node").bind(node=raft.node_id)
    log.info("leadership_transfer", to=to, term=raft.current_term)
    run.wake()

    def decided() -> bool:
        return raft.transferee == 0 if raft.leads else raft.leader_id != 0

    with suppress(DeadlineExceeded):
        await run.until(decided, deadline)
    if raft.leader_id != to:
        raise Unavailable(f"node {to} did not take over; {_leader_of(raft)}")
    return to


def _leader_of(raft: Raft) -> str:
    if not raft.leader_id:
        return "no leader is known"
    return f"node {raft.leader_id} {'still ' if raft.leads else ''}leads"


class Withdrawal:
    """The end of service of a node with damaged data or a wrong state: it transfers leadership,
    then stops.

    From `begin` on, nothing is applied, proposed or read at this node; `reason` is set.
    """

    def __init__(
        self,
        raft: Raft,
        run: RunLoop,
        barriers: ReadBarriers,
        finish: Callable[[BaseException], None],
        election_timeout_s_max: float,
    ) -> None:
        self._raft = raft
        self._run = run
        self._barriers = barriers
        self._finish = finish
        self._timeout_s = TRANSFER_ELECTION_TIMEOUTS_MAX * election_timeout_s_max
        self._log = structlog.get_logger("raftkv.node").bind(node=raft.node_id)
        self.reason: OutOfService | None = None

    def begin(self, damage: DamagedData) -> None:
        """Leave service because of damage in this node's own data. A second call does nothing."""
        if self.reason is None and not self._run.dead:
            self._log.critical("damage_found", damage=damage_of(damage), leads=self._raft.leads)
            self._leave(self._out_of_service(damage))

    def quarantine(self, found: str) -> None:
        """Leave service because the state of this node is wrong. A second call does nothing."""
        if self.reason is None and not self._run.dead:
            self._log.critical("quarantined", found=found, leads=self._raft.leads)
            self._leave(
                OutOfService(f"{found}; {quarantine_advice(self._raft.node_id)}", state=found)
            )

    def _leave(self, reason: OutOfService) -> None:
        raft, run = self._raft, self._run
        self.reason = reason
        self._barriers.fail_all(lambda: ShuttingDown("the node is stopping; ask another one"))
        if raft.leads:
            run.spawn(self._transfer_then_finish(reason))
        else:
            self._finish(reason)

    def ended_by(self, error: BaseException) -> bool:
        """Whether a withdrawal was under way that this error ends at once: the disk fails."""
        if self.reason is None or not isinstance(error, StorageError):
            return False
        self._finish(self.reason)
        return True

    async def _transfer_then_finish(self, reason: OutOfService) -> None:
        deadline = self._run.loop.time() + self._timeout_s
        with suppress(RaftkvError):
            await transfer_leadership(self._raft, self._run, 0, deadline)
        self._finish(reason)

    def _out_of_service(self, damage: DamagedData) -> OutOfService:
        raft = self._raft
        others = raft.membership.voters - {raft.node_id}
        what = damage_of(damage)
        return OutOfService(
            f"{what}; " + rebuild_advice(raft.node_id, alone=not others),
            node=raft.node_id,
            damage=what,
        )

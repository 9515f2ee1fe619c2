"""Leaving service: a node with damaged data gives leadership away, and takes no part any more."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from raftkv.errors import DamagedData, OutOfService, RaftkvError, ShuttingDown, StorageError
from raftkv.node.leadership import hand_over
from raftkv.storage.damage import damage_of, rebuild_advice

if TYPE_CHECKING:
    from raftkv.node.driver import Driver

HAND_OVER_ELECTION_TIMEOUTS_MAX = 2
"""For so long a leader tries to give leadership away. The others elect another one anyway."""


class Withdrawal:
    """The end of one node's service. Once it has begun, nothing is applied, submitted or read."""

    def __init__(self, driver: Driver, election_timeout_s_max: float) -> None:
        self._driver = driver
        self._patience_s = HAND_OVER_ELECTION_TIMEOUTS_MAX * election_timeout_s_max
        self._log = structlog.get_logger("raftkv.node").bind(node=driver.raft.node_id)
        self.reason: OutOfService | None = None

    def begin(self, damage: DamagedData) -> None:
        """Leave service because of damage in this node's own data. Again is no error."""
        driver = self._driver
        if self.reason is not None or driver.dead:
            return
        self.reason = self._out_of_service(damage)
        self._log.critical("damage_found", damage=damage_of(damage), leads=driver.raft.leads)
        driver.barriers.fail_all(lambda: ShuttingDown("the node is stopping; ask another one"))
        if driver.raft.leads:
            driver.tasks.spawn(self._give_leadership_away(self.reason))
        else:
            driver.finish(self.reason)

    def hastened_by(self, error: BaseException) -> bool:
        """Whether it has begun and ends now, as the disk fails the node in other ways, too."""
        if self.reason is None or not isinstance(error, StorageError):
            return False
        self._driver.finish(self.reason)
        return True

    async def _give_leadership_away(self, reason: OutOfService) -> None:
        driver = self._driver
        with suppress(RaftkvError):
            await hand_over(driver, 0, driver.loop.time() + self._patience_s)
        driver.finish(reason)

    def _out_of_service(self, damage: DamagedData) -> OutOfService:
        raft = self._driver.raft
        others = raft.membership.voters - {raft.node_id}
        what = damage_of(damage)
        return OutOfService(
            f"{what}; " + rebuild_advice(raft.node_id, alone=not others),
            node=raft.node_id,
            damage=what,
        )

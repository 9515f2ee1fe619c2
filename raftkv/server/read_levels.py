"""When this node may answer a read of a level, and how old its answer may be. Knows no keys."""

from __future__ import annotations

import asyncio
import math

from raftkv.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NoLeader,
    RevisionInFuture,
    TooStale,
)
from raftkv.rpc import api_pb2
from raftkv.server.ports import Node

STALENESS_UNKNOWN_MS = -1
# These reflect every write that was acknowledged before they were asked for.
CURRENT = frozenset((api_pb2.READ_LEVEL_LINEARIZABLE, api_pb2.READ_LEVEL_LEADER_LEASE))


class ReadLevels:
    """The read levels of one node.

    Age is counted from when this node sent its last question for a read index that was confirmed
    by a majority and has been applied here. A clock of the machine that stands still, as that of
    a suspended one does, hides age.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._loop = asyncio.get_running_loop()

    def barrier(self, reads: api_pb2.ReadBatch, deadline: float) -> asyncio.Future[None] | None:
        """What to wait for before these reads are answered; None: nothing.

        Raises `ShuttingDown` if the node answers none any more. Fails with `NoLeader` or
        `DeadlineExceeded`, `TooStale` for a bounded read, `RevisionInFuture` for a session that
        has seen what this cluster never had.
        """
        self._node.require_running()
        level = reads.level
        if level == api_pb2.READ_LEVEL_LINEARIZABLE:
            return self._node.read_barrier(deadline)
        if level == api_pb2.READ_LEVEL_STALE:
            return None
        if level == api_pb2.READ_LEVEL_LEADER_LEASE:
            return self._node.lease_barrier(deadline)
        if level == api_pb2.READ_LEVEL_SESSION:
            if self._node.machine.revision >= reads.min_revision:
                return None
            return self._loop.create_task(self._reach(reads.min_revision, deadline))
        if level == api_pb2.READ_LEVEL_BOUNDED:
            bound_ms = reads.max_staleness_ms
            if bound_ms < 1:
                raise InvalidRequest(
                    f"max_staleness_ms is {bound_ms}; give at least 1, or read linearizably",
                    field="max_staleness_ms",
                )
            if self._is_within(bound_ms):
                return None
            return self._loop.create_task(self._freshen(bound_ms, deadline))
        raise InvalidRequest(f"level {level} is unknown; use one of ReadLevel", field="level")

    def staleness_ms(self, reads: api_pb2.ReadBatch, fresh_as_of_s: float | None) -> int:
        """How old the answer may be by now, read from a state that was as fresh as that."""
        if reads.level in CURRENT:
            return 0
        if fresh_as_of_s is None:
            return STALENESS_UNKNOWN_MS
        return math.ceil((self._loop.time() - fresh_as_of_s) * 1000)

    @staticmethod
    def allow(reads: api_pb2.ReadBatch, staleness_ms: int) -> bool:
        """Whether these reads may be answered from a state of that age."""
        bounded = reads.level == api_pb2.READ_LEVEL_BOUNDED
        return not bounded or 0 <= staleness_ms <= reads.max_staleness_ms

    def _is_within(self, bound_ms: int) -> bool:
        fresh_as_of_s = self._node.fresh_as_of_s
        return fresh_as_of_s is not None and (
            (self._loop.time() - fresh_as_of_s) * 1000 <= bound_ms
        )

    async def _reach(self, min_revision: int, deadline: float) -> None:
        """Whatever a caller has seen was committed, so the leader's read index includes it."""
        await self._node.read_barrier(deadline)
        revision = self._node.machine.revision
        if revision < min_revision:
            raise RevisionInFuture(
                f"revision {min_revision} was never reached here, the store is at {revision}; is"
                " min_revision of another cluster, or of the time before this one was restored?",
                revision=revision,
            )

    async def _freshen(self, bound_ms: int, deadline: float) -> None:
        """Ask anew until an answer comes within the bound; all who wait in a turn ask together."""
        while not self._is_within(bound_ms):
            if self._loop.time() >= deadline:
                raise self._too_stale(bound_ms)
            try:
                await self._node.read_barrier(deadline)
            except (NoLeader, DeadlineExceeded) as error:
                raise self._too_stale(bound_ms) from error

    def _too_stale(self, bound_ms: int) -> TooStale:
        fresh_as_of_s, age = self._node.fresh_as_of_s, "of unknown age"
        if fresh_as_of_s is not None:
            age = f"up to {(self._loop.time() - fresh_as_of_s) * 1000:.0f} ms old"
        return TooStale(
            f"the state of node {self._node.node_id} is {age}, the read allows {bound_ms} ms, and"
            " no majority confirmed a newer one in time; ask another node, or read stale"
        )

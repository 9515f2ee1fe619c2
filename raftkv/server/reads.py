"""Answers ranges and read-only transactions from what this node has applied. Knows no wire.

When it may do so is what read_levels.py knows.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TypeAlias, cast

from raftkv.errors import (
    DeadlineExceeded,
    InvalidRequest,
    InvariantViolation,
    NoLeader,
    Overloaded,
    RaftkvError,
    RevisionInFuture,
    TooStale,
)
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.kv.pace import Returned, Steps
from raftkv.kv.validation import check_range, check_read_transaction
from raftkv.rpc.v1 import api_pb2, kv_pb2
from raftkv.server import failures
from raftkv.server.node_port import NodePort
from raftkv.wire.failures import failure_of

# As many point reads as the loop can spare without a breath: about a millisecond.
POINTS_AT_ONCE_MAX = 256
# Range reads that share the loop; more of them would only make each other late.
RANGES_AT_ONCE_MAX = 4

_Read: TypeAlias = kv_pb2.Range | kv_pb2.Transaction


class ReadHandler:
    """Reads of all clients of this node.

    `on_broken` is told of damaged data and of a broken invariant:
    such a node must stop.
    """

    def __init__(
        self, node: NodePort, limits: Limits, on_broken: Callable[[BaseException], None]
    ) -> None:
        self._node = node
        self.reply_bytes_max = limits.reply_bytes_max
        self._limits = limits
        self._levels = ReadLevels(node)
        self._on_broken = on_broken
        self._ranges_at_once = asyncio.Semaphore(RANGES_AT_ONCE_MAX)

    def barrier(self, reads: api_pb2.ReadBatch, deadline: float) -> asyncio.Future[None] | None:
        """What to wait for before these reads are answered; None: nothing."""
        return self._levels.barrier(reads, deadline)

    async def confirm(self, level: api_pb2.ReadLevel, deadline: float) -> None:
        """Wait until a read of this level may be answered."""
        barrier = self.barrier(api_pb2.ReadBatch(level=level), deadline)
        if barrier is not None:
            await barrier

    def at_once(self, reads: api_pb2.ReadBatch) -> api_pb2.ReadResults | None:
        """The answer, if these are so few and so simple that nobody has to wait for them."""
        ranges = reads.ranges
        if reads.transactions or len(ranges) > POINTS_AT_ONCE_MAX:
            return None
        if not all(map(_is_point, ranges)):
            return None
        answer = api_pb2.ReadResults()
        add = answer.results.add
        for each in ranges:
            self._point(each, add())
        if answer.ByteSize() > self.reply_bytes_max and len(ranges) > 1:
            return None
        return self._dated(reads, answer, self._node.fresh_as_of_s)

    async def answer(self, reads: api_pb2.ReadBatch, deadline: float) -> api_pb2.ReadResults:
        """One result per read, in order; one that fails has its failure in its place.

        Raises `TooStale` if the answer has become older than the reads allow.
        """
        while True:
            fresh_as_of_s = self._node.fresh_as_of_s
            answer = (await self._read_all(reads, deadline)).answer
            if self._dated(reads, answer, fresh_as_of_s):
                return answer
            barrier = self.barrier(reads, deadline)
            if barrier is not None:
                await barrier

    async def _read_all(self, reads: api_pb2.ReadBatch, deadline: float) -> _Reply:
        reply = _Reply(self.reply_bytes_max)
        asked: list[_Read] = [*reads.ranges, *reads.transactions]
        for each in asked:
            if reply.full:
                reply.append(_no_room(self.reply_bytes_max))
            elif isinstance(each, kv_pb2.Range) and _is_point(each):
                result = kv_pb2.Result()
                self._point(each, result)
                reply.append(result)
                await asyncio.sleep(0)
            else:
                result = await self._long_read(each, deadline)
                await asyncio.sleep(0)  # it may have ended in its first step, or be large
                reply.append(result)
                await asyncio.sleep(0)
        return reply

    def _dated(
        self, reads: api_pb2.ReadBatch, answer: api_pb2.ReadResults, fresh_as_of_s: float | None
    ) -> api_pb2.ReadResults | None:
        """The answer with its age, unless that is more by now than the reads allow."""
        answer.staleness_ms = self._levels.staleness_ms(reads, fresh_as_of_s)
        return answer if self._levels.allow(reads, answer.staleness_ms) else None

    def _point(self, request: kv_pb2.Range, result: kv_pb2.Result) -> None:
        try:
            check_range(request, self._limits)
            self._node.machine.get(request.key, result)
        except (RaftkvError, InvariantViolation) as error:
            result.CopyFrom(self._failed(error))

    async def _long_read(self, request: _Read, deadline: float) -> kv_pb2.Result:
        try:
            if isinstance(request, kv_pb2.Range):
                check_range(request, self._limits)
            else:
                check_read_transaction(request, self._limits)
            return await self.in_steps(lambda machine: _steps(machine, request), deadline)
        except (RaftkvError, InvariantViolation) as error:
            return self._failed(error)

    async def in_steps(
        self, steps_of: Callable[[StateMachine], Steps[Returned]], deadline: float
    ) -> Returned:
        """What these steps return, with a breath after each. Raises `DeadlineExceeded`."""
        loop = asyncio.get_running_loop()
        async with self._ranges_at_once:
            machine = self._node.machine
            steps = steps_of(machine)
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    return cast(Returned, end.value)
                await asyncio.sleep(0)
                if loop.time() >= deadline:
                    raise DeadlineExceeded(
                        "it was not read through in time; ask for a smaller part of it"
                    )
                if self._node.machine is not machine:
                    # A snapshot took the store's place, and with it the files this read stood on.
                    machine = self._node.machine
                    steps = steps_of(machine)

    def _failed(self, error: BaseException) -> kv_pb2.Result:
        if failures.ends_service(error):
            self._on_broken(error)
        return kv_pb2.Result(failure=failure_of(failures.of_read(error)))


class _Reply:
    """The results of one request, kept within the bound of a reply; the first always fits."""

    def __init__(self, bytes_max: int) -> None:
        self.answer = api_pb2.ReadResults()
        self.full = False
        self._bytes_max = bytes_max
        self._bytes_left = bytes_max

    def append(self, result: kv_pb2.Result) -> None:
        size = result.ByteSize()
        if self.answer.results and size > self._bytes_left:
            self.full = True
            result = _no_room(self._bytes_max)
        self._bytes_left -= size
        self.answer.results.append(result)


def _steps(machine: StateMachine, request: _Read) -> Steps[kv_pb2.Result]:
    if isinstance(request, kv_pb2.Range):
        return machine.read(request)
    return machine.read_transaction(request)


def _no_room(bytes_max: int) -> kv_pb2.Result:
    error = Overloaded(f"this reply is full ({bytes_max} bytes); ask again for this read")
    return kv_pb2.Result(failure=failure_of(error))


def _is_point(request: kv_pb2.Range) -> bool:
    return not (
        request.range_end
        or request.revision > 0
        or request.keys_only
        or request.count_only
        or request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    )


STALENESS_UNKNOWN_MS = -1
# These reflect every write that was acknowledged before they were asked for.
CURRENT = frozenset((api_pb2.READ_LEVEL_LINEARIZABLE, api_pb2.READ_LEVEL_LEADER_LEASE))


class ReadLevels:
    """The read levels of one node.

    Age is counted from when this node sent its last question for a read index that was confirmed
    by a majority and has been applied here. A clock of the machine that stands still, as that of
    a suspended one does, hides age.
    """

    def __init__(self, node: NodePort) -> None:
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

"""Reads of applied state: read levels, and ranges and read-only transactions in bounded steps."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias, TypeVar, cast

from raftkv.errors import (
    DeadlineExceeded,
    InvalidRequest,
    InvariantViolation,
    NoLeader,
    Overloaded,
    PermissionDenied,
    RaftkvError,
    RevisionInFuture,
    TooStale,
    Unauthenticated,
)
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.kv.pace import Returned, Steps
from raftkv.kv.rights import needs_of_range, needs_of_transaction
from raftkv.kv.validation import check_range, check_read_transaction
from raftkv.rpc.v1 import api_pb2, kv_pb2
from raftkv.server import failures
from raftkv.server.authorization import Requester
from raftkv.server.node_port import NodePort
from raftkv.wire.failures import failure_of

# Point reads in one turn of the event loop: about a millisecond.
POINTS_AT_ONCE_MAX = 256
# Range reads at a time; more of them would only delay each other.
RANGES_AT_ONCE_MAX = 4

_Read: TypeAlias = kv_pb2.Range | kv_pb2.Transaction


class ReadHandler:
    """Executes the reads of all clients of this node.

    Rights are checked on the state that is read. A read without them is a failed read, and a caller
    that is not authenticated any more gets no answer.

    `on_broken` is called with damaged data or a broken invariant: such a node must stop.
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

    def at_once(self, reads: api_pb2.ReadBatch, requester: Requester) -> api_pb2.ReadResults | None:
        """The answer, if the reads are few and simple enough for this turn of the event loop.

        Raises `Unauthenticated`.
        """
        ranges = reads.ranges
        if reads.transactions or len(ranges) > POINTS_AT_ONCE_MAX:
            return None
        if not all(map(_is_point, ranges)):
            return None
        requester.author()
        answer = api_pb2.ReadResults()
        add = answer.results.add
        for each in ranges:
            self._point(each, requester, add())
        if answer.ByteSize() > self.reply_bytes_max and len(ranges) > 1:
            return None
        return self._with_staleness(reads, answer, self._node.fresh_as_of_s)

    async def answer(
        self, reads: api_pb2.ReadBatch, requester: Requester, deadline: float
    ) -> api_pb2.ReadResults:
        """One result per read, in order; a failed read's result is its failure.

        Raises `TooStale` if the answer has become older than the reads allow, and
        `Unauthenticated`.
        """
        while True:
            fresh_as_of_s = self._node.fresh_as_of_s
            answer = (await self._read_all(reads, requester, deadline)).answer
            if self._with_staleness(reads, answer, fresh_as_of_s):
                return answer
            barrier = self.barrier(reads, deadline)
            if barrier is not None:
                await barrier

    async def _read_all(
        self, reads: api_pb2.ReadBatch, requester: Requester, deadline: float
    ) -> _Reply:
        reply = _Reply(self.reply_bytes_max)
        requested: list[_Read] = [*reads.ranges, *reads.transactions]
        for each in requested:
            if reply.full:
                reply.append(_no_room(self.reply_bytes_max))
            elif isinstance(each, kv_pb2.Range) and _is_point(each):
                result = kv_pb2.Result()
                requester.author()
                self._point(each, requester, result)
                reply.append(result)
                await asyncio.sleep(0)
            else:
                result = await self._long_read(each, requester, deadline)
                await asyncio.sleep(0)  # the read may have taken a single long step
                reply.append(result)
                await asyncio.sleep(0)
        return reply

    def _with_staleness(
        self, reads: api_pb2.ReadBatch, answer: api_pb2.ReadResults, fresh_as_of_s: float | None
    ) -> api_pb2.ReadResults | None:
        """The answer with its staleness; None if that exceeds what the reads allow."""
        answer.staleness_ms = self._levels.staleness_ms(reads, fresh_as_of_s)
        return answer if self._levels.allow(reads, answer.staleness_ms) else None

    def _point(self, request: kv_pb2.Range, requester: Requester, result: kv_pb2.Result) -> None:
        try:
            check_range(request, self._limits)
            requester.require_read_of_key(request.key)
            self._node.machine.get(request.key, result)
        except (RaftkvError, InvariantViolation) as error:
            result.CopyFrom(self._failed(error, requester))

    async def _long_read(
        self, request: _Read, requester: Requester, deadline: float
    ) -> kv_pb2.Result:
        try:
            if isinstance(request, kv_pb2.Range):
                check_range(request, self._limits)
            else:
                check_read_transaction(request, self._limits)
            return await self.in_steps(
                lambda machine: self._begin(machine, request, requester), deadline
            )
        except Unauthenticated:
            raise
        except (RaftkvError, InvariantViolation) as error:
            return self._failed(error, requester)

    def _begin(
        self, machine: StateMachine, request: _Read, requester: Requester
    ) -> Steps[kv_pb2.Result]:
        if isinstance(request, kv_pb2.Transaction):
            requester.require(*needs_of_transaction(request))
            return machine.read_transaction(request)
        requester.require(needs_of_range(request))
        if request.page or request.revision > 0:  # more reads of this revision may follow
            self._node.pin_history(request.revision if request.revision > 0 else machine.revision)
        return machine.read(request)

    async def in_steps(
        self, steps_of: Callable[[StateMachine], Steps[Returned]], deadline: float
    ) -> Returned:
        """Run the steps with a yield to the event loop after each. Raises `DeadlineExceeded`.

        `steps_of` is called anew where a snapshot has replaced the state, so it must check rights.
        """
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
                    raise DeadlineExceeded("the read did not finish in time; read a smaller range")
                if self._node.machine is not machine:
                    # An installed snapshot replaced the store that this read used: start again.
                    machine = self._node.machine
                    steps = steps_of(machine)

    def _failed(self, error: BaseException, requester: Requester) -> kv_pb2.Result:
        if isinstance(error, PermissionDenied):
            requester.report(error)
        if failures.ends_service(error):
            self._on_broken(error)
        return kv_pb2.Result(failure=failure_of(failures.of_read(error)))


class _Reply:
    """The results of one request, within the bound of a reply; the first result always fits."""

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
# Reads of these levels include every write that was acknowledged before the read was requested.
CURRENT = frozenset((api_pb2.READ_LEVEL_LINEARIZABLE, api_pb2.READ_LEVEL_LEADER_LEASE))


class ReadLevels:
    """The read levels of one node: what to wait for, and how stale an answer may be.

    Staleness counts from when this node requested the last read index that a majority confirmed and
    that is applied here. It is too low on a machine that was suspended, whose clock stood still.
    """

    def __init__(self, node: NodePort) -> None:
        self._node = node
        self._loop = asyncio.get_running_loop()

    def barrier(self, reads: api_pb2.ReadBatch, deadline: float) -> asyncio.Future[None] | None:
        """What to wait for before these reads are answered; None: nothing.

        Raises `ShuttingDown` if the node is stopping. The future fails with `NoLeader` or
        `DeadlineExceeded`, with `TooStale` for a bounded read, and with `RevisionInFuture` for a
        session with a revision that this cluster has never reached.
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
        """The staleness now of an answer that was read from a state of `fresh_as_of_s`."""
        if reads.level in CURRENT:
            return 0
        if fresh_as_of_s is None:
            return STALENESS_UNKNOWN_MS
        return math.ceil((self._loop.time() - fresh_as_of_s) * 1000)

    @staticmethod
    def allow(reads: api_pb2.ReadBatch, staleness_ms: int) -> bool:
        """Whether these reads accept an answer of this staleness."""
        bounded = reads.level == api_pb2.READ_LEVEL_BOUNDED
        return not bounded or 0 <= staleness_ms <= reads.max_staleness_ms

    def _is_within(self, bound_ms: int) -> bool:
        fresh_as_of_s = self._node.fresh_as_of_s
        return fresh_as_of_s is not None and (
            (self._loop.time() - fresh_as_of_s) * 1000 <= bound_ms
        )

    async def _reach(self, min_revision: int, deadline: float) -> None:
        """Every revision that a client has seen is committed, so the read index includes it."""
        await self._node.read_barrier(deadline)
        revision = self._node.machine.revision
        if revision < min_revision:
            raise RevisionInFuture(
                f"revision {min_revision} was never reached here, the store is at {revision}; is"
                " min_revision of another cluster, or of the time before this one was restored?",
                revision=revision,
            )

    async def _freshen(self, bound_ms: int, deadline: float) -> None:
        """Repeat read barriers until the state is within the bound; concurrent ones share a
        round.
        """
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


REPLY_ROWS_PER_STEP: Final = 1_000
REPLY_ROWS_MAX: Final = 10_000
"""Rows in one reply, however short: a reply is encoded in one turn of the event loop."""
ROW_OVERHEAD_BYTES: Final = 8
"""The most bytes that an element of a repeated field takes beside its own."""

T = TypeVar("T")


def fill_reply(
    rows: Iterable[T | None],
    add: Callable[[T], object],
    size_of: Callable[[T], int],
    bytes_max: int,
) -> Steps[bool]:
    """Add rows to a reply in steps until it is full; returns whether rows are left.

    The first row always fits. None stands for a row that was read and is left out.
    """
    bytes_left, added = bytes_max, 0
    for position, row in enumerate(rows, 1):
        if row is not None:
            bytes_left -= size_of(row) + ROW_OVERHEAD_BYTES
            if added and (bytes_left < 0 or added >= REPLY_ROWS_MAX):
                return True
            add(row)
            added += 1
        if not position % REPLY_ROWS_PER_STEP:
            yield
    return False

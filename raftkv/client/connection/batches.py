"""Queues of calls, one per kind, and the batches that are made from them.

Each call is encoded once, when it is issued, as a batch of itself alone. Protobuf defines that
concatenated messages merge, and that their repeated fields are concatenated. So a batch is its
header followed by the bytes of its calls, and making one costs no more than joining them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from raftkv.client.connection.session import Session
from raftkv.client.model.read_levels import Bounded, Level, ReadLevel
from raftkv.client.settings import ClientSettings
from raftkv.errors import DeadlineExceeded, RaftkvError, TooStale
from raftkv.rpc.v1 import api_pb2, kv_pb2


class QueuedCall:
    """One operation of one caller, and the future that the caller waits for."""

    __slots__ = ("alone", "deadline", "decode", "future", "once", "piece")

    def __init__(
        self,
        piece: bytes,
        decode: Callable[..., Any],
        future: asyncio.Future[Any],
        deadline: float,
        once: bool,
    ) -> None:
        self.piece = piece  # a CommandBatch or ReadBatch with nothing but this operation
        self.decode = decode  # of a result that is no failure; see CallQueue.decoded
        self.future = future
        self.deadline = deadline  # in the loop's time
        self.once = once  # one attempt: a refusal is its result, and it is not queued again
        self.alone = False  # it needs the space of a whole reply


class Batch:
    """Calls that are sent together. A batch of a session is sent again only unchanged."""

    __slots__ = (
        "ambiguous",
        "calls",
        "deadline",
        "next_deadline",
        "payload",
        "queue",
        "sent_at",
        "sequence",
        "session",
        "token",
    )

    def __init__(self, queue: CallQueue, calls: list[QueuedCall], payload: bytes) -> None:
        self.queue = queue
        self.calls = calls
        self.payload = payload
        self.session: Session | None = None
        self.sequence = 0
        self.ambiguous = False  # an attempt ended without an answer: it may have been applied
        self.sent_at = 0.0
        self.token = ""  # of the stream on which it was sent
        self.deadline = max(call.deadline for call in calls)
        self.next_deadline = min(call.deadline for call in calls)

    def settle(self) -> None:
        """This batch will never be sent again."""
        if self.session is not None:
            self.session.settle(self.sequence)


class CallQueue:
    """The calls of one kind that wait for a batch, and how many batches of them are in flight.

    A batch may be repeated at will, unless it belongs to a session.
    """

    writes = False  # calls whose outcome is unknown when no answer comes
    needs_majority = True

    def __init__(self, settings: ClientSettings) -> None:
        self.calls: deque[QueuedCall] = deque()
        self.in_flight = 0
        self.operations_max = settings.batch_operations_max
        self.bytes_max = settings.batch_bytes_max
        # The store's last refusal for now, and the end of the pause that it asked for.
        self.refusal = ""
        self.resume_at = 0.0

    def refused(self, refusal: str, resume_at: float) -> None:
        """The store has no memory for this client's session: one batch at a time is tried."""
        self.refusal = refusal
        self.resume_at = max(self.resume_at, resume_at)

    def answered(self) -> None:
        """The store has taken a batch: the pause is over."""
        self.refusal = ""
        self.resume_at = 0.0

    def ready(self) -> bool:
        """Whether `form` has something to make a batch of."""
        return bool(self.calls)

    @property
    def in_use(self) -> bool:
        """Whether a call of this queue has no answer yet."""
        return bool(self.calls) or self.in_flight > 0

    def form(self, operations_max: int) -> Batch | None:
        """Make a batch of the first calls, without those that are over (expired or cancelled)."""
        calls = self._take(min(operations_max, self.operations_max))
        return Batch(self, calls, self._header() + _joined(calls)) if calls else None

    def put_back(self, calls: Sequence[QueuedCall]) -> None:
        """These were certainly not run: they are the first in the next batch."""
        self.calls.extendleft(call for call in reversed(calls) if not call.future.done())

    def shrink(self) -> None:
        """The server's limits are below the client's: make smaller batches from now on."""
        self.operations_max = max(1, self.operations_max // 2)
        self.bytes_max = max(1, self.bytes_max // 2)

    def envelope(self, number: int, timeout_ms: int, payload: bytes) -> bytes:
        """The PipelineRequest that carries a batch."""
        return api_pb2.PipelineRequest(
            number=number, timeout_ms=timeout_ms, commands=payload
        ).SerializeToString()

    def decoded(self, call: QueuedCall, result: kv_pb2.Result, reply: api_pb2.PipelineReply) -> Any:
        """What the caller gets for a result that is no failure."""
        return call.decode(result)

    def not_in_time(self, why: str) -> RaftkvError:
        """The error of a call that has changed nothing when its time is up.

        `why` is the last answer of a node, or that it has not answered; empty if none was reached.
        """
        applied = ", and nothing was applied" if self.writes else ""
        why = self.refusal or why
        said = f" ({why})" if why else ""
        return DeadlineExceeded(
            f"no node could serve this in time{applied}{said}; try again, or give it a longer"
            " timeout"
        )

    def _header(self) -> bytes:
        return b""

    def _take(self, operations_max: int) -> list[QueuedCall]:
        queue, bytes_left = self.calls, self.bytes_max
        calls: list[QueuedCall] = []
        while queue and len(calls) < operations_max:
            call = queue[0]
            if not call.future.done():
                bytes_left -= len(call.piece)
                if calls and (bytes_left < 0 or call.alone):
                    break
                calls.append(call)
                if call.alone:
                    operations_max = 1
            queue.popleft()
        return calls


class CommandQueue(CallQueue):
    """Calls that go through the log."""


class ControlQueue(CommandQueue):
    """The client's own lease and session commands: outside any session, harmless when repeated."""


class WriteQueue(CommandQueue):
    """The callers' commands. Each batch gets a sequence of the session, so that it runs once."""

    writes = True

    def __init__(self, settings: ClientSettings) -> None:
        super().__init__(settings)
        self.session: Session | None = None

    def ready(self) -> bool:
        return self.session is not None and bool(self.calls)

    def form(self, operations_max: int) -> Batch | None:
        session = self.session
        calls = self._take(min(operations_max, self.operations_max)) if session else []
        if session is None or not calls:
            return None
        sequence = session.next_sequence()
        header = kv_pb2.CommandBatch(
            session=session.lease, sequence=sequence, acknowledged=session.acknowledged
        )
        batch = Batch(self, calls, header.SerializeToString() + _joined(calls))
        batch.session = session
        batch.sequence = sequence
        return batch


@dataclass(frozen=True, slots=True)
class AtLeast:
    """The level of a range's later pages: any node that has this revision may answer on its own."""

    revision: int


QueueLevel: TypeAlias = Level | AtLeast


class ReadQueue(CallQueue):
    """Reads of one level, all of ranges or all of transactions, as a ReadBatch holds them."""

    def __init__(
        self, settings: ClientSettings, level: QueueLevel, revision_seen: Callable[[], int]
    ) -> None:
        super().__init__(settings)
        self._level = level
        self._revision_seen = revision_seen
        self._fixed_header = _header_of(level).SerializeToString()
        self.needs_majority = level is not ReadLevel.STALE and not isinstance(level, AtLeast)

    def envelope(self, number: int, timeout_ms: int, payload: bytes) -> bytes:
        return api_pb2.PipelineRequest(
            number=number, timeout_ms=timeout_ms, reads=api_pb2.ReadBatch.FromString(payload)
        ).SerializeToString()

    def decoded(self, call: QueuedCall, result: kv_pb2.Result, reply: api_pb2.PipelineReply) -> Any:
        return call.decode(result, reply)

    def not_in_time(self, why: str) -> RaftkvError:
        if isinstance(self._level, Bounded):
            return TooStale(
                f"no node could show in time that its state is at most {self._level.max_staleness}"
                " s old; try again, allow more, or read stale"
            )
        return super().not_in_time(why)

    def _header(self) -> bytes:
        if self._level is ReadLevel.SESSION:
            seen = api_pb2.ReadBatch(min_revision=self._revision_seen())
            return self._fixed_header + seen.SerializeToString()
        return self._fixed_header


_LEVELS = {
    ReadLevel.LINEARIZABLE: api_pb2.READ_LEVEL_LINEARIZABLE,
    ReadLevel.LEADER_LEASE: api_pb2.READ_LEVEL_LEADER_LEASE,
    ReadLevel.SESSION: api_pb2.READ_LEVEL_SESSION,
    ReadLevel.STALE: api_pb2.READ_LEVEL_STALE,
}


def _header_of(level: QueueLevel) -> api_pb2.ReadBatch:
    if isinstance(level, AtLeast):
        return api_pb2.ReadBatch(level=api_pb2.READ_LEVEL_SESSION, min_revision=level.revision)
    if isinstance(level, Bounded):
        return api_pb2.ReadBatch(
            level=api_pb2.READ_LEVEL_BOUNDED, max_staleness_ms=int(level.max_staleness * 1000)
        )
    return api_pb2.ReadBatch(level=_LEVELS[level])


def _joined(calls: list[QueuedCall]) -> bytes:
    return b"".join([call.piece for call in calls])

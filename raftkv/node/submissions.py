"""Batches that wait for their results at the node that received them. Knows no Raft.

A submission is handed to the leader of a term. It stays alive until one of these is known:
its results, because this node applied it; that it is dead, because an entry of a later term
was applied and it was not among the entries before (no log with it can win any more); or
that nobody can know, because a snapshot jumped over the place where it might be. A dead one
is handed on again; an unknown one only if its session makes that safe, and from then on
nothing but its results says what became of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias

from raftkv.errors import (
    DeadlineExceeded,
    NoLeader,
    OutcomeUnknown,
    Overloaded,
    RaftkvError,
    SessionExpired,
)
from raftkv.rpc import kv_pb2
from raftkv.transport.ports import Submission


class Waiting:
    """One submission and who waits for it. `term` 0: no leader has it, as far as is known."""

    __slots__ = (
        "deadline",
        "future",
        "maybe_applied",
        "resend_after_ticks",
        "submission",
        "term",
        "ticks",
    )

    def __init__(
        self, submission: Submission, future: asyncio.Future[bytes], deadline: float
    ) -> None:
        self.submission = submission
        self.future = future
        self.deadline = deadline
        self.term = 0
        self.maybe_applied = False  # among the entries that a snapshot has jumped over
        self.ticks = 0
        self.resend_after_ticks = 0

    @property
    def certainly_not_applied(self) -> bool:
        return self.term == 0 and not self.maybe_applied


class Submissions:
    """All submissions of this process, by number. Bounded by count and bytes."""

    RESEND_TICKS = 4

    def __init__(self, origin: int, count_max: int, bytes_max: int) -> None:
        self.origin = origin
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._number = 0
        self._waiting: dict[int, Waiting] = {}
        self._unsent: list[Waiting] = []

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    @property
    def settled(self) -> int:
        """Nobody waits for a submission up to this number."""
        return next(iter(self._waiting), self._number + 1) - 1

    def add(self, commands: bytes, future: asyncio.Future[bytes], deadline: float) -> None:
        """Take a batch in. Raises `Overloaded` over a bound."""
        if len(self._waiting) >= self._count_max or self._bytes >= self._bytes_max:
            raise Overloaded(
                f"this node has {len(self._waiting)} batches ({self._bytes} bytes) under way, its"
                " bound; wait, or send fewer at once",
                retry_after_s=0.05,
            )
        self._number += 1
        waiting = Waiting(Submission(self.origin, self._number, commands), future, deadline)
        self._waiting[self._number] = waiting
        self._bytes += len(commands)
        self._unsent.append(waiting)

    def take_unsent(self, term: int) -> list[Submission]:
        """What the leader of `term` has to be given."""
        taken = []
        for waiting in self._unsent:
            waiting.term = term
            waiting.ticks = 0
            waiting.resend_after_ticks = self.RESEND_TICKS
            taken.append(waiting.submission)
        self._unsent.clear()
        return taken

    def take_overdue(self, term: int) -> list[Submission]:
        """What the leader of `term` was given a while ago and may have lost on the way.

        It knows them by their number and takes none twice.
        """
        overdue = []
        for waiting in self._waiting.values():
            if waiting.term == term and waiting.ticks >= waiting.resend_after_ticks:
                waiting.resend_after_ticks *= 2
                overdue.append(waiting.submission)
        return overdue

    def resolve(self, number: int, result: bytes) -> None:
        """Applied: hand over the results. An unknown number has been given up before."""
        waiting = self._forget(number)
        if waiting is None or waiting.future.done():
            return
        if waiting.maybe_applied and _session_has_ended(result):
            waiting.future.set_exception(
                OutcomeUnknown(
                    "this node caught up by snapshot before it saw whether the write was applied,"
                    " and the session that would know has ended"
                )
            )
        else:
            waiting.future.set_result(result)

    def refused(self, term: int, number: int, error: RaftkvError) -> None:
        """The leader of `term` has not proposed it, and will not."""
        waiting = self._waiting.get(number)
        # In another term it may be on its way again; what a snapshot jumped over may be applied.
        if waiting is not None and waiting.term == term and not waiting.maybe_applied:
            waiting.term = 0
            self._fail(number, error)

    def revive_before(self, term: int) -> None:
        """An entry of `term` was applied: what older leaders got and is not here, is dead."""
        for waiting in self._waiting.values():
            if 0 < waiting.term < term:
                waiting.term = 0
                waiting.ticks = 0
                self._unsent.append(waiting)

    def jump(self, repeatable: Callable[[bytes], bool]) -> None:
        """A snapshot took the place of entries we have not seen."""
        for number, waiting in list(self._waiting.items()):
            if waiting.term == 0:
                continue
            if repeatable(waiting.submission.commands):
                self._renumber(number, waiting)
                waiting.maybe_applied = True
            else:
                self._fail(
                    number,
                    OutcomeUnknown(
                        "this node caught up by snapshot and has not"
                        " seen whether the write was applied"
                    ),
                )

    def _renumber(self, number: int, waiting: Waiting) -> None:
        """Make it new for the leader, who takes a number of ours once in its term."""
        del self._waiting[number]
        self._number += 1
        self._waiting[self._number] = waiting
        waiting.submission = replace(waiting.submission, number=self._number)
        waiting.term = 0
        waiting.ticks = 0
        self._unsent.append(waiting)

    def tick(self, now_s: float, leader_known: bool, patience_ticks: int) -> None:
        """Give up what is past its deadline, and what has found no leader for too long."""
        for number, waiting in list(self._waiting.items()):
            waiting.ticks += 1
            if waiting.future.done():  # the caller has gone away
                if waiting.term == 0:
                    self._drop_unsent(waiting)
                self._forget(number)
            elif now_s >= waiting.deadline:
                self._fail(number, self._late(waiting))
            elif waiting.term == 0 and not leader_known and waiting.ticks > patience_ticks:
                self._fail(
                    number,
                    OutcomeUnknown("no leader has been found to ask whether the write was applied")
                    if waiting.maybe_applied
                    else NoLeader(
                        "no leader has been found; a majority of the cluster does not answer"
                    ),
                )

    def fail_all(self, unsent_error: Callable[[], RaftkvError]) -> None:
        """The node stops."""
        for number, waiting in list(self._waiting.items()):
            if waiting.certainly_not_applied:
                self._fail(number, unsent_error())
            else:
                self._fail(
                    number,
                    OutcomeUnknown("the node stopped before it saw whether the write was applied"),
                )

    def _late(self, waiting: Waiting) -> RaftkvError:
        if waiting.certainly_not_applied:
            return DeadlineExceeded("no leader took the write in time; it has not been applied")
        return OutcomeUnknown("the write was proposed, but not seen applied in time")

    def _fail(self, number: int, error: RaftkvError) -> None:
        waiting = self._forget(number)
        if waiting is None:
            return
        if waiting.term == 0:
            self._drop_unsent(waiting)
        if not waiting.future.done():
            waiting.future.set_exception(error)

    def _drop_unsent(self, waiting: Waiting) -> None:
        self._unsent = [other for other in self._unsent if other is not waiting]

    def _forget(self, number: int) -> Waiting | None:
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            self._bytes -= len(waiting.submission.commands)
        return waiting


def _session_has_ended(result: bytes) -> bool:
    """Whether a batch was refused now for the lack of what would remember its first run."""
    return kv_pb2.BatchResult.FromString(result).failure.reason == SessionExpired.reason


_Origin: TypeAlias = tuple[int, int]
"""The sender of submissions, and the process that it says has handed them in."""


class Intake:
    """The leader's queue: submissions of all origins, each taken or refused once per term.

    What one sender can make it hold is bounded: bytes in the queue, origins, and numbers.
    """

    ORIGINS_PER_SENDER_MAX = 16
    """A node has one origin in each of its lives, and few lives in a term."""

    TAKEN_PER_ORIGIN_MAX = 1 << 20

    def __init__(self, bytes_per_sender_max: int) -> None:
        self._bytes_per_sender_max = bytes_per_sender_max
        self._queue: list[Submission] = []
        self._bytes: dict[int, int] = {}
        self._origins: dict[int, dict[int, None]] = {}
        self._settled: dict[_Origin, int] = {}
        self._taken: dict[_Origin, set[int]] = {}
        self._refused: dict[_Origin, set[int]] = {}

    def __bool__(self) -> bool:
        return bool(self._queue)

    def clear(self) -> None:
        """A new term: whatever was not proposed is its origin's again."""
        for kept in (
            *(self._queue, self._bytes, self._origins),
            *(self._settled, self._taken, self._refused),
        ):
            kept.clear()

    def add(
        self, sender: int, submissions: Iterable[Submission], settled: int
    ) -> list[tuple[int, RaftkvError]]:
        """Queue what has not been taken before. The origin waits for none up to `settled`.

        Returns the numbers of those over a bound, each with its error. The origin is told that
        such a one was not proposed, so a copy of it that arrives later is not, either.
        """
        over: list[tuple[int, RaftkvError]] = []
        for submission in submissions:
            origin, number = (sender, submission.origin), submission.number
            taken, refused = self._taken_from(origin), self._refused[origin]
            if settled > self._settled.get(origin, 0):
                self._settled[origin] = settled
                taken -= {old for old in taken if old <= settled}
                refused -= {old for old in refused if old <= settled}
            if number <= self._settled.get(origin, 0) or number in taken:
                continue
            queued, known = self._bytes.get(sender, 0), len(taken) + len(refused)
            if (
                number in refused
                or queued >= self._bytes_per_sender_max
                or known >= self.TAKEN_PER_ORIGIN_MAX
            ):
                if known < self.TAKEN_PER_ORIGIN_MAX:
                    refused.add(number)
                over.append((number, self._full(sender, queued)))
                continue
            taken.add(number)
            self._bytes[sender] = queued + len(submission.commands)
            self._queue.append(submission)
        return over

    def _taken_from(self, origin: _Origin) -> set[int]:
        """The numbers of this origin that were taken and are not settled."""
        taken = self._taken.get(origin)
        if taken is None:
            taken = self._taken[origin] = set()
            self._refused[origin] = set()
            sender, process = origin
            origins = self._origins.setdefault(sender, {})
            origins[process] = None
            if len(origins) > self.ORIGINS_PER_SENDER_MAX:
                # The oldest is a life of the sender that is long over: nobody repeats its numbers.
                gone = next(iter(origins))
                del origins[gone]
                self._taken.pop((sender, gone), None)
                self._refused.pop((sender, gone), None)
                self._settled.pop((sender, gone), None)
        return taken

    def _full(self, sender: int, queued: int) -> RaftkvError:
        return Overloaded(
            f"the leader has {queued} bytes of node {sender} waiting, its bound; wait, or send"
            " fewer at once",
            retry_after_s=0.05,
        )

    def take(self, bytes_max: int) -> Iterator[list[Submission]]:
        """Empty the queue in lists of about `bytes_max` each, in order."""
        queue, self._queue = self._queue, []
        self._bytes.clear()
        return in_parts(queue, bytes_max)


def in_parts(submissions: Iterable[Submission], bytes_max: int) -> Iterator[list[Submission]]:
    """Lists of about `bytes_max` each, in order; one submission at least."""
    chosen: list[Submission] = []
    size = 0
    for submission in submissions:
        if chosen and size + len(submission.commands) > bytes_max:
            yield chosen
            chosen, size = [], 0
        chosen.append(submission)
        size += len(submission.commands)
    if chosen:
        yield chosen

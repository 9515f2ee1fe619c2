"""Pending proposals of this node's clients, until their results are known.

A proposal goes to the leader of a term. It is pending until this node knows one of these:

- its results: this node has applied it;
- that it is dead: this node has applied an entry of a later term without it, so no log with it can
  win any more. A dead proposal is proposed again;
- that its outcome is unknown: a snapshot replaced log entries that this node never applied, and it
  may have been among them. It is proposed again if its session makes that safe, and from then on
  only its results decide.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from raftkv.errors import (
    DeadlineExceeded,
    NoLeader,
    Outcome,
    OutcomeUnknown,
    Overloaded,
    RaftkvError,
    SessionExpired,
)
from raftkv.node import flow_control
from raftkv.node.fair_queue import FairQueue
from raftkv.node.flow_control import MixedLoad, cost_of
from raftkv.node.statistics import ProposalOutcomes
from raftkv.peer.ports import NO_AUTHOR, Author, Submission
from raftkv.rpc.v1 import kv_pb2


class PendingProposal:
    """One submission and the future of its result. `term`: of the leader that has it, 0 if none."""

    __slots__ = (
        "cost",
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
        self.cost = cost_of(submission)
        self.future = future
        self.deadline = deadline
        self.term = 0
        self.maybe_applied = False
        """A snapshot replaced entries that it may have been in."""

        self.ticks = 0
        self.resend_after_ticks = 0

    @property
    def certainly_not_applied(self) -> bool:
        return self.term == 0 and not self.maybe_applied


class PendingProposals:
    """All proposals of this process, by number. Bounded by count and bytes.

    The share that a leader has is bounded as well; the others queue here, in turns between clients.
    """

    RESEND_TICKS = 4

    def __init__(self, origin: int, count_max: int, bytes_max: int) -> None:
        self.origin = origin
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._number = 0
        self._waiting: dict[int, PendingProposal] = {}
        self._unsent: FairQueue[int, PendingProposal] = FairQueue(flow_control.TURN_COST)
        self.load = MixedLoad()
        self.outcomes = ProposalOutcomes()
        self._sent_cost = 0
        self._sent_of: Counter[int] = Counter()  # by client

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def may_send(self) -> bool:
        """Whether there is an unsent proposal that the leader may get now.

        A proposal that was sent can't be overtaken, so few are sent at a time. A client of which
        the leader has none need not wait for others.
        """
        if not self._unsent:
            return False
        client, _, _ = self._unsent.head()
        return self._sent_cost < flow_control.FORWARDED_COST_MAX or not self._sent_of[client]

    @property
    def settled(self) -> int:
        """No proposal up to this number is pending."""
        return next(iter(self._waiting), self._number + 1) - 1

    def add(
        self,
        commands: bytes,
        future: asyncio.Future[bytes],
        deadline: float,
        client: int = 0,
        weight: int = 1,
        author: Author = NO_AUTHOR,
    ) -> None:
        """Add a batch of a client. Raises `Overloaded` over a bound."""
        if len(self._waiting) >= self._count_max or self._bytes >= self._bytes_max:
            raise Overloaded(
                f"this node has {len(self._waiting)} batches ({self._bytes} bytes) under way, its"
                " bound; wait, or send fewer at once",
                retry_after_s=0.05,
            )
        self._number += 1
        submission = Submission(self.origin, self._number, commands, client, weight, author)
        waiting = PendingProposal(submission, future, deadline)
        self._waiting[self._number] = waiting
        self._bytes += len(commands)
        self._unsent.push(client, waiting, waiting.cost)
        self.load.record(client, waiting.cost)

    def take_unsent(self, term: int) -> list[Submission]:
        """The proposals for the leader of `term` to get now."""
        taken = []
        while self.may_send:
            waiting = self._unsent.pop()
            waiting.term = term
            waiting.ticks = 0
            waiting.resend_after_ticks = self.RESEND_TICKS
            self._sent_cost += waiting.cost
            self._sent_of[waiting.submission.client] += 1
            taken.append(waiting.submission)
        return taken

    def _withdraw(self, waiting: PendingProposal) -> None:
        """No leader has it any more: it is unsent again."""
        if waiting.term == 0:
            return
        waiting.term = 0
        waiting.ticks = 0
        self._sent_cost -= waiting.cost
        client = waiting.submission.client
        self._sent_of[client] -= 1
        if not self._sent_of[client]:
            del self._sent_of[client]

    def _queue_again(self, revived: list[PendingProposal]) -> None:
        """Queue proposals that were sent before. They precede the unsent ones of their clients."""
        for waiting in reversed(revived):
            self._unsent.push_front(waiting.submission.client, waiting, waiting.cost)

    def take_overdue(self, term: int) -> list[Submission]:
        """Proposals that were sent to the leader of `term` some time ago and may be lost.

        The leader accepts each number once.
        """
        overdue = []
        for waiting in self._waiting.values():
            if waiting.term == term and waiting.ticks >= waiting.resend_after_ticks:
                waiting.resend_after_ticks *= 2
                overdue.append(waiting.submission)
        return overdue

    def resolve(self, number: int, result: bytes) -> None:
        """It was applied: resolve its future. A number that is not pending was given up before."""
        waiting = self._forget(number)
        if waiting is None or waiting.future.done():
            return
        if waiting.maybe_applied and _session_has_ended(result):
            self.outcomes.unknown += 1
            waiting.future.set_exception(
                OutcomeUnknown(
                    "this node caught up by snapshot before it saw whether the write was applied,"
                    " and the session that would know has ended"
                )
            )
        else:
            self.outcomes.applied += 1
            waiting.future.set_result(result)

    def refused(self, term: int, number: int, error: RaftkvError) -> None:
        """The leader of `term` has not proposed it, and will not."""
        waiting = self._waiting.get(number)
        # In another term it may be sent again; after a snapshot it may be applied already.
        if waiting is not None and waiting.term == term and not waiting.maybe_applied:
            self._fail(number, error)

    def revive_before(self, term: int) -> None:
        """An entry of `term` was applied: proposals of older leaders are dead. Revive them."""
        dead = [waiting for waiting in self._waiting.values() if 0 < waiting.term < term]
        for waiting in dead:
            self._withdraw(waiting)
        self._queue_again(dead)

    def snapshot_installed(self, repeatable: Callable[[bytes], bool]) -> None:
        """A snapshot replaced entries that this node never applied."""
        maybe_applied: list[PendingProposal] = []
        for number, waiting in list(self._waiting.items()):
            if waiting.term == 0:
                continue
            if repeatable(waiting.submission.commands):
                self._renumber(number, waiting)
                waiting.maybe_applied = True
                maybe_applied.append(waiting)
            else:
                self._fail(
                    number,
                    OutcomeUnknown(
                        "this node caught up by snapshot and has not"
                        " seen whether the write was applied"
                    ),
                )
        self._queue_again(maybe_applied)

    def _renumber(self, number: int, waiting: PendingProposal) -> None:
        """Give it a new number, because the leader accepts a number once in its term."""
        del self._waiting[number]
        self._number += 1
        self._waiting[self._number] = waiting
        waiting.submission = replace(waiting.submission, number=self._number)
        self._withdraw(waiting)

    def tick(self, now_s: float, leader_known: bool, leaderless_ticks_max: int) -> None:
        """Give up what is past its deadline, and what has found no leader for too long."""
        self.load.tick()
        for number, waiting in list(self._waiting.items()):
            waiting.ticks += 1
            if waiting.future.done():  # the caller has gone away
                self._forget(number)
            elif now_s >= waiting.deadline:
                self._fail(number, self._late(waiting))
            elif waiting.term == 0 and not leader_known and waiting.ticks > leaderless_ticks_max:
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

    def _late(self, waiting: PendingProposal) -> RaftkvError:
        if waiting.certainly_not_applied:
            return DeadlineExceeded("no leader took the write in time; it has not been applied")
        return OutcomeUnknown("the write was proposed, but not seen applied in time")

    def _fail(self, number: int, error: RaftkvError) -> None:
        waiting = self._forget(number)
        if waiting is not None and not waiting.future.done():
            if error.outcome is Outcome.MAYBE_APPLIED:
                self.outcomes.unknown += 1
            else:
                self.outcomes.not_applied += 1
            waiting.future.set_exception(error)

    def _forget(self, number: int) -> PendingProposal | None:
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            self._bytes -= len(waiting.submission.commands)
            if waiting.term == 0:
                self._unsent.remove(waiting.submission.client, waiting)
            self._withdraw(waiting)
        return waiting


def _session_has_ended(result: bytes) -> bool:
    """Whether a batch was refused now for the lack of what would remember its first run."""
    return kv_pb2.BatchResult.FromString(result).failure.reason == SessionExpired.reason


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

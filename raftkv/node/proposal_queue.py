"""The leader's queue of proposals of all nodes' clients that are in no entry yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from raftkv.errors import Overloaded, RaftkvError
from raftkv.node import flow_control
from raftkv.node.fair_queue import FairQueue
from raftkv.node.flow_control import MixedLoad, ProposedWork, cost_of
from raftkv.peer.ports import Submission

_Origin: TypeAlias = tuple[int, int]
"""The node that forwarded submissions, and the process that they came from by its account."""

_Client: TypeAlias = tuple[int, int, int]
"""An origin, and which of its clients."""


class ProposalQueue:
    """Submissions of all origins, each accepted or refused once per term, in turns between clients.

    One sender's share is bounded: bytes in the queue, origins, and numbers.
    """

    ORIGINS_PER_SENDER_MAX = 16
    """A node has one origin per process, and few processes in a term."""

    TAKEN_PER_ORIGIN_MAX = 1 << 20

    def __init__(self, bytes_per_sender_max: int) -> None:
        self._bytes_per_sender_max = bytes_per_sender_max
        self._queue: FairQueue[_Client, Submission] = FairQueue(flow_control.TURN_COST)
        self._proposed = ProposedWork()
        self.load = MixedLoad()
        self._bytes: dict[int, int] = {}
        self._origins: dict[int, dict[int, None]] = {}
        self._settled: dict[_Origin, int] = {}
        self._taken: dict[_Origin, set[int]] = {}
        self._refused: dict[_Origin, set[int]] = {}

    def __bool__(self) -> bool:
        return len(self._queue) > 0

    def clear(self) -> None:
        """A new term: origins forward again what was not proposed."""
        for kept in (
            *(self._queue, self._proposed, self._bytes, self._origins),
            *(self._settled, self._taken, self._refused),
        ):
            kept.clear()

    def add(
        self, sender: int, submissions: Iterable[Submission], settled: int
    ) -> list[tuple[int, RaftkvError]]:
        """Queue what was not accepted before. The origin has no pending proposal up to `settled`.

        Returns the numbers over a bound, each with its error. The origin learns that such a
        proposal was refused, so no later copy of it is proposed.
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
            client, cost = (*origin, submission.client), cost_of(submission)
            self._queue.push(client, submission, cost)
            self.load.record(client, cost)
        return over

    def _taken_from(self, origin: _Origin) -> set[int]:
        """The numbers of this origin that were accepted and are not settled."""
        taken = self._taken.get(origin)
        if taken is None:
            taken = self._taken[origin] = set()
            self._refused[origin] = set()
            sender, process = origin
            origins = self._origins.setdefault(sender, {})
            origins[process] = None
            if len(origins) > self.ORIGINS_PER_SENDER_MAX:
                # The oldest is a process that ended long ago: its numbers are not repeated.
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

    def may_propose(self, last_applied: int) -> bool:
        """Whether there is something to propose, and room for it in flight.

        In mixed load a large batch is alone in flight: small ones wait for one of them at most.
        """
        if not self._queue:
            return False
        cost_max = flow_control.PROPOSED_COST_MAX
        if self.load.is_on and self._queue.head()[2] > flow_control.TURN_COST:
            cost_max = flow_control.TURN_COST
        return self._proposed.has_room(last_applied, cost_max)

    def _entry_cost_max(self, cost: int, more: int) -> int:
        if self.load.is_on and max(cost, more) > flow_control.TURN_COST:
            return flow_control.TURN_COST
        return flow_control.ENTRY_COST_MAX

    def take(self, bytes_max: int, index: int) -> tuple[list[Submission], dict[int, None]]:
        """The submissions for the entry at `index`, in order, and their senders.

        They are of about `bytes_max` at most, and of the cost that an entry may have.
        """
        queue = self._queue
        chosen: list[Submission] = []
        senders: dict[int, None] = {}
        size = cost = 0
        while queue:
            (sender, _, _), submission, more = queue.head()
            size += len(submission.commands)
            if chosen and (size > bytes_max or cost + more > self._entry_cost_max(cost, more)):
                break
            chosen.append(queue.pop())
            cost += more
            senders[sender] = None
            self._bytes[sender] -= len(submission.commands)
        self._proposed.add(index, cost)
        return chosen, senders

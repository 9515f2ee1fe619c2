"""Reads that wait until this node may answer them. Knows contexts and indexes, no Raft.

All barriers asked for in one loop turn share a context; a context is answered with an index
(ReadIndex), and its barriers open when that index is applied here. From then on the state is
known to hold everything that was acknowledged before the context was first asked about.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from raftkv.errors import DeadlineExceeded, NoLeader, RaftkvError


class Barriers:
    """The barriers of one context."""

    __slots__ = ("asked", "asked_at_s", "futures", "ticks")

    def __init__(self) -> None:
        self.futures: list[tuple[asyncio.Future[None], float]] = []
        self.asked = False
        self.asked_at_s: float | None = None  # for the first time
        self.ticks = 0

    def ask(self, context: int, read_index: Callable[[int], bool], now_s: float) -> None:
        self.asked = read_index(context)
        # The answer may be to any of the questions, so only the first says how fresh it is.
        if self.asked and self.asked_at_s is None:
            self.asked_at_s = now_s


class ReadBarriers:
    """Barriers by context, then by the index they wait for."""

    def __init__(self, first_context: int) -> None:
        """`first_context` is drawn anew in each life of the process: an answer to a question of
        the last one, still on its way, must not confirm a read of this one.

        `fresh_as_of_s`: the state holds everything acknowledged before this time; None: unknown.
        A heartbeat says nothing of the kind, it may be that of a deposed leader.
        """
        self.fresh_as_of_s: float | None = None
        self._context = first_context
        self._gathering = Barriers()
        self._ask_anyway = False
        self._asked: dict[int, Barriers] = {}
        self._confirmed: list[tuple[int, int, Barriers]] = []

    def add(self, future: asyncio.Future[None], deadline: float) -> None:
        self._gathering.futures.append((future, deadline))

    def add_confirmed(self, future: asyncio.Future[None], deadline: float, read_index: int) -> None:
        """Nobody has to be asked: `read_index` is as good as the leader's answer."""
        self._context += 1
        barriers = Barriers()
        barriers.futures.append((future, deadline))
        heapq.heappush(self._confirmed, (read_index, self._context, barriers))

    def ask_anyway(self) -> None:
        """Ask in this turn, even if no barrier waits for it: who leads may be of interest."""
        self._ask_anyway = True

    def ask(self, read_index: Callable[[int], bool], now_s: float) -> None:
        """Ask for everything gathered in this turn; if nobody can be asked, a later tick will."""
        if self._gathering.futures or self._ask_anyway:
            self._ask_anyway = False
            self._context += 1
            barriers, self._gathering = self._gathering, Barriers()
            barriers.ask(self._context, read_index, now_s)
            self._asked[self._context] = barriers

    def confirm(self, context: int, read_index: int) -> float | None:
        """The leader answered; when it was first asked. A second answer is ignored: None."""
        barriers = self._asked.pop(context, None)
        if barriers is None:
            return None
        heapq.heappush(self._confirmed, (read_index, context, barriers))
        return barriers.asked_at_s

    def open(self, applied_index: int) -> None:
        """The state holds everything up to `applied_index`."""
        while self._confirmed and self._confirmed[0][0] <= applied_index:
            barriers = heapq.heappop(self._confirmed)[2]
            self._note_fresh(barriers.asked_at_s)
            for future, _ in barriers.futures:
                if not future.done():
                    future.set_result(None)

    def tick(
        self, now_s: float, read_index: Callable[[int], bool], again_ticks: int, patience_ticks: int
    ) -> None:
        """Ask again where no answer came, and give up what is late or finds no leader."""
        for context, barriers in list(self._asked.items()):
            barriers.ticks += 1
            if not barriers.asked or barriers.ticks % again_ticks == 0:
                barriers.ask(context, read_index, now_s)
            if not barriers.asked and barriers.ticks > patience_ticks:
                self._expire(barriers, None)
            else:
                self._expire(barriers, now_s)
            if not barriers.futures:
                del self._asked[context]
        for _, _, barriers in self._confirmed:
            self._expire(barriers, now_s)

    def _note_fresh(self, asked_at_s: float | None) -> None:
        if asked_at_s is not None:
            self.fresh_as_of_s = max(asked_at_s, self.fresh_as_of_s or asked_at_s)

    def fail_all(self, error: Callable[[], RaftkvError]) -> None:
        """The node stops."""
        every = [self._gathering, *self._asked.values(), *(item[2] for item in self._confirmed)]
        for barriers in every:
            for future, _ in barriers.futures:
                if not future.done():
                    future.set_exception(error())
        self._gathering = Barriers()
        self._asked.clear()
        self._confirmed.clear()

    def _expire(self, barriers: Barriers, now_s: float | None) -> None:
        """Fail the late ones, or all of them if there is no leader (`now_s` None)."""
        kept = []
        for future, deadline in barriers.futures:
            if future.done():
                continue
            if now_s is None:
                future.set_exception(
                    NoLeader(
                        "no leader answers, so a linearizable read can't be served; a stale one can"
                    )
                )
            elif now_s >= deadline:
                future.set_exception(DeadlineExceeded("the read was not confirmed in time"))
            else:
                kept.append((future, deadline))
        barriers.futures = kept

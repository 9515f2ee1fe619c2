"""Read barriers: linearizable reads that await a ReadIndex (dissertation 6.4).

All barriers of one loop turn share a context. The leader answers a context with an index, and its
barriers open when that index is applied here. Then the state includes everything that was
acknowledged before the context was first sent.
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
        # The answer may belong to any request of this context, so freshness counts from the first.
        if self.asked and self.asked_at_s is None:
            self.asked_at_s = now_s


class ReadBarriers:
    """Barriers by context, then by the index they wait for."""

    def __init__(self, first_context: int) -> None:
        """`first_context` is random for each process: a late answer to a request of the last
        process must not confirm a read of this one.
        """
        self.fresh_as_of_s: float | None = None
        """The state includes everything acknowledged before this time; None: unknown. Heartbeats do
        not count: they may be those of a deposed leader."""

        self._context = first_context
        self._gathering = Barriers()
        self._ask_anyway = False
        self._asked: dict[int, Barriers] = {}
        self._confirmed: list[tuple[int, int, Barriers]] = []

    def add(self, future: asyncio.Future[None], deadline: float) -> None:
        self._gathering.futures.append((future, deadline))

    def add_confirmed(self, future: asyncio.Future[None], deadline: float, read_index: int) -> None:
        """Add a barrier whose `read_index` is known: this node leads and holds its lease."""
        self._context += 1
        barriers = Barriers()
        barriers.futures.append((future, deadline))
        heapq.heappush(self._confirmed, (read_index, self._context, barriers))

    def ask_anyway(self) -> None:
        """Request a read index in this turn, even without a barrier: it renews the leader lease."""
        self._ask_anyway = True

    def ask(self, read_index: Callable[[int], bool], now_s: float) -> None:
        """Request a read index for all barriers of this turn. A tick repeats a failed request."""
        if self._gathering.futures or self._ask_anyway:
            self._ask_anyway = False
            self._context += 1
            barriers, self._gathering = self._gathering, Barriers()
            barriers.ask(self._context, read_index, now_s)
            self._asked[self._context] = barriers

    def confirm(self, context: int, read_index: int) -> float | None:
        """The leader answered. Returns when the context was first sent; None if answered before."""
        barriers = self._asked.pop(context, None)
        if barriers is None:
            return None
        heapq.heappush(self._confirmed, (read_index, context, barriers))
        return barriers.asked_at_s

    def open(self, applied_index: int) -> None:
        """The state machine has applied everything up to `applied_index`."""
        while self._confirmed and self._confirmed[0][0] <= applied_index:
            barriers = heapq.heappop(self._confirmed)[2]
            self._set_fresh(barriers.asked_at_s)
            for future, _ in barriers.futures:
                if not future.done():
                    future.set_result(None)

    def tick(
        self,
        now_s: float,
        read_index: Callable[[int], bool],
        again_ticks: int,
        leaderless_ticks_max: int,
    ) -> None:
        """Repeat requests without an answer, and fail barriers that are late or find no leader."""
        for context, barriers in list(self._asked.items()):
            barriers.ticks += 1
            if not barriers.asked or barriers.ticks % again_ticks == 0:
                barriers.ask(context, read_index, now_s)
            if not barriers.asked and barriers.ticks > leaderless_ticks_max:
                self._expire(barriers, None)
            else:
                self._expire(barriers, now_s)
            if not barriers.futures:
                del self._asked[context]
        for _, _, barriers in self._confirmed:
            self._expire(barriers, now_s)

    def _set_fresh(self, asked_at_s: float | None) -> None:
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

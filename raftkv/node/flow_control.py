"""Flow control of proposals: the cost of a batch, and how much may be in flight.

A proposal in flight can't be overtaken. So no more is in flight than keeps all stages of a write
busy; the rest waits in fair queues, where a new client need not wait behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

from raftkv.peer.ports import Submission

COMMAND_COST_BYTES = 4 << 10
"""What a command costs beside its bytes: 40 us of CPU on all nodes, as much as 4 KB of a value."""

TURN_COST = 64 * COMMAND_COST_BYTES
"""The cost of one client's turn in a fair queue. A batch that costs more is large."""

ENTRY_COST_MAX = 512 * COMMAND_COST_BYTES
"""An entry has no more than this unless its first batch has."""

PROPOSED_COST_MAX = 2 * ENTRY_COST_MAX
"""While a leader has proposed this much that it has not applied, it proposes nothing."""

FORWARDED_COST_MAX = 4 * PROPOSED_COST_MAX
"""A follower forwards this much at most: more than the leader proposes, so that none is idle."""

BATCH_COMMANDS_ADVISED = 128
"""The advised batch of a client in mixed load: a batch can't be overtaken half way."""

LATELY_TICKS = 20
"""A client counts as active for this long after a write at least, and twice as long at most."""


def cost_of(submission: Submission) -> int:
    """In bytes of commands that would cost as much."""
    return len(submission.commands) + submission.weight * COMMAND_COST_BYTES


class MixedLoad:
    """Whether clients with large batches and clients without them have written lately.

    Then less is in flight than would be best for throughput alone.
    """

    def __init__(self) -> None:
        self.is_on = False
        self._ticks = 0
        self._seen: set[Hashable] = set()
        self._large: set[Hashable] = set()
        self._seen_before: set[Hashable] = set()
        self._large_before: set[Hashable] = set()

    def record(self, client: Hashable, cost: int) -> None:
        """A client has submitted a batch."""
        self._seen.add(client)
        if cost > TURN_COST:
            self._large.add(client)

    def tick(self) -> None:
        """Update `is_on`, and drop clients that have not written lately."""
        large = self._large | self._large_before
        self.is_on = bool(large) and not (large >= self._seen | self._seen_before)
        self._ticks += 1
        if self._ticks % LATELY_TICKS == 0:
            self._seen_before, self._large_before = self._seen, self._large
            self._seen, self._large = set(), set()


class ProposedWork:
    """The entries that a leader has proposed and not applied yet, with their costs."""

    def __init__(self) -> None:
        self._entries: deque[tuple[int, int]] = deque()
        self._cost = 0

    def clear(self) -> None:
        """A new term: what was proposed before is counted no more."""
        self._entries.clear()
        self._cost = 0

    def add(self, index: int, cost: int) -> None:
        """The entry at `index` has been proposed."""
        self._entries.append((index, cost))
        self._cost += cost

    def has_room(self, last_applied: int, cost_max: int) -> bool:
        """Whether what has been proposed and not applied costs less than this."""
        while self._entries and self._entries[0][0] <= last_applied:
            self._cost -= self._entries.popleft()[1]
        return self._cost < cost_max

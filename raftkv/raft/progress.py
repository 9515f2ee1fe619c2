"""What a leader knows of one peer's log, and how fast it may send. Knows no messages."""

from __future__ import annotations

import enum
from collections import deque

from raftkv.errors import check

NEVER = -(1 << 62)  # ticks


class Replication(enum.Enum):
    """How the leader talks to a peer."""

    PROBE = "probe"  # one message at a time, until it fits
    REPLICATE = "replicate"  # pipelined: next_index runs ahead of match_index
    SNAPSHOT = "snapshot"  # what it needs is compacted away; no entries until it has the snapshot


class Progress:
    """`match_index` only ever rises within a term; `next_index` is above it."""

    def __init__(self, next_index: int, messages_max: int, bytes_max: int) -> None:
        self.match_index = 0
        self.next_index = next_index
        self.replication = Replication.PROBE
        self.probe_sent = False
        self.recently_active = False
        self.acknowledged_tick = NEVER  # of this leadership: when its disk last kept up
        self.commit_told = 0
        self.commit_wanted = 0  # tell commits up to here at once
        self.snapshot_index = 0
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._in_flight: deque[tuple[int, int]] = deque()
        self._in_flight_bytes = 0

    @property
    def paused(self) -> bool:
        """No entries may be sent now."""
        if self.replication is Replication.PROBE:
            return self.probe_sent
        if self.replication is Replication.SNAPSHOT:
            return True
        return (
            len(self._in_flight) >= self._messages_max or self._in_flight_bytes >= self._bytes_max
        )

    def sent(self, last_index: int, size_bytes: int) -> None:
        """Entries up to `last_index` have been sent (none, if it is below next_index)."""
        if self.replication is Replication.PROBE:
            self.probe_sent = True
            return
        if last_index >= self.next_index:
            self.next_index = last_index + 1
            self._in_flight.append((last_index, size_bytes))
            self._in_flight_bytes += size_bytes

    def acknowledge(self, match_index: int) -> bool:
        """The peer has everything up to `match_index` on disk. True if that is news."""
        while self._in_flight and self._in_flight[0][0] <= match_index:
            self._in_flight_bytes -= self._in_flight.popleft()[1]
        if match_index <= self.match_index:
            return False
        self.match_index = match_index
        self.next_index = max(self.next_index, match_index + 1)
        return True

    def refuse(self, prev_log_index: int, agreement_index: int) -> bool:
        """The peer's log does not fit at `prev_log_index`. False if that is old news."""
        if self.replication is Replication.REPLICATE:
            if prev_log_index <= self.match_index:
                return False
            self.become_probe()
            return True
        if self.replication is Replication.SNAPSHOT or prev_log_index != self.next_index - 1:
            return False
        self.next_index = max(min(prev_log_index, agreement_index + 1), self.match_index + 1)
        self.probe_sent = False
        return True

    def become_probe(self) -> None:
        self._become(Replication.PROBE)
        self.next_index = max(self.match_index, self.snapshot_index) + 1
        self.snapshot_index = 0

    def become_replicate(self) -> None:
        self._become(Replication.REPLICATE)
        self.next_index = self.match_index + 1

    def become_snapshot(self) -> None:
        self._become(Replication.SNAPSHOT)

    def _become(self, replication: Replication) -> None:
        check(self.next_index > self.match_index, "next_index is above match_index")
        self.replication = replication
        self.probe_sent = False
        self._in_flight.clear()
        self._in_flight_bytes = 0

"""A leader's view of one peer's log, and flow control of what it sends to that peer."""

from __future__ import annotations

import enum
from collections import deque

from raftkv.errors import check

NEVER = -(1 << 62)
"""A tick before every other one."""


class Replication(enum.Enum):
    """What a leader may send to a peer (the states of `Progress` in etcd/raft)."""

    PROBE = "probe"
    """One AppendEntries at a time, until one matches."""

    REPLICATE = "replicate"
    """Pipelined: `next_index` runs ahead of `match_index`."""

    SNAPSHOT = "snapshot"
    """The entries it needs are compacted; no entries until it has the snapshot."""


class Progress:
    """The progress of one peer in one leadership: `0 <= match_index < next_index`."""

    def __init__(self, next_index: int, messages_max: int, bytes_max: int) -> None:
        self.match_index = 0
        """The highest entry known to be on the peer's disk and equal to the leader's (figure 2).
        Never decreases within a term; `match_index <= log.last_index`."""

        self.next_index = next_index
        """The next entry to send (figure 2). `match_index < next_index <= log.last_index + 1`. In
        REPLICATE all entries before it have been sent; in PROBE it is a guess."""

        self.replication = Replication.PROBE
        """The state. A rejection or a broken link leads to PROBE, an acknowledgement to REPLICATE,
        a compacted `next_index - 1` to SNAPSHOT."""

        self.probe_sent = False
        """In PROBE, whether an AppendEntries awaits its reply, or a received snapshot its
        installation. The next heartbeat clears it, because a message may be lost. False in the
        other states."""

        self.recently_active = False
        """Whether a message of the peer arrived since the last check-quorum (dissertation 6.2)."""

        self.acknowledged_tick = NEVER
        """The tick of this leadership in which the peer last acknowledged new entries, or had all
        of them. `NEVER`, or `0 <= acknowledged_tick <= Replicator.ticks`."""

        self.commit_sent = 0
        """The commit index in the last entries or heartbeat to the peer, as far as the peer may
        use it. The message may be lost: the next heartbeat repeats it."""

        self.commit_wanted = 0
        """A client of the peer waits for the commit of entries up to here, so `commit_sent` must
        not lag behind `min(commit_index, match_index, commit_wanted)`. Never decreases."""

        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._in_flight: deque[tuple[int, int]] = deque()
        """In REPLICATE, last index and size of each message with entries that is not acknowledged,
        in ascending order; every index is above `match_index`. Empty in the other states."""

        self._in_flight_bytes = 0
        """The sum of the sizes in `_in_flight`."""

    @property
    def paused(self) -> bool:
        """Whether flow control forbids to send entries now."""
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
        """The peer has everything up to `match_index` on disk. True if `match_index` rises."""
        while self._in_flight and self._in_flight[0][0] <= match_index:
            self._in_flight_bytes -= self._in_flight.popleft()[1]
        if match_index <= self.match_index:
            return False
        self.match_index = match_index
        self.next_index = max(self.next_index, match_index + 1)
        return True

    def reject(self, prev_log_index: int, agreement_index: int) -> bool:
        """The peer rejected an AppendEntries at `prev_log_index`; the logs may agree up to
        `agreement_index`. False if the rejection is out of date.
        """
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

    def become_probe(self, snapshot_index: int = 0) -> None:
        """Probe after `match_index`, or after the snapshot that the peer has received."""
        self._become(Replication.PROBE)
        self.next_index = max(self.match_index, snapshot_index) + 1

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

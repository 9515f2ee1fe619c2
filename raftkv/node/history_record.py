"""What each node records about its history: the revision that was current at a cluster time, the
bytes that each revision has added, and the revisions that running reads and watches need.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from raftkv.kv.machine import StateMachine
from raftkv.kv.store import Family, StateStore

SAMPLES_PER_BOUND = 64
"""Samples within the age and within the bytes that history may have: so exact are the bounds."""

SAMPLES_MAX = 1_024
"""If there are more, every other one is dropped."""


class HistorySample(NamedTuple):
    """At cluster time `time_ms` the store was at `revision`, and `added_bytes` had been added to
    its history since the record began.
    """

    time_ms: int
    revision: int
    added_bytes: int


class HistoryRecord:
    """Samples of one state machine's past, since the process has it.

    How the history that was there before was spread over time is not known. It counts as if it had
    begun with the record, and its bytes as if all its revisions had the same size.
    """

    def __init__(self, age_ms: int, bytes_max: int) -> None:
        """The bounds for which the samples are taken; 0: no bound."""
        self._step_ms = max(1, age_ms // SAMPLES_PER_BOUND) if age_ms else None
        self._step_bytes = max(1, bytes_max // SAMPLES_PER_BOUND) if bytes_max else None
        self._samples: list[HistorySample] = [HistorySample(0, 0, 0)]

    def begin(self, machine: StateMachine, store: StateStore) -> None:
        """The node has this state machine from now on."""
        stored_bytes = store.size_bytes(Family.HISTORY) + store.size_bytes(Family.CHANGES)
        oldest, time_ms = machine.compacted_revision, machine.time_ms
        added_bytes = machine.history_bytes_added
        self._samples = [
            HistorySample(time_ms, oldest, added_bytes - stored_bytes),
            HistorySample(time_ms, machine.revision, added_bytes),
        ]

    def observe(self, time_ms: int, machine: StateMachine) -> None:
        """The state machine is as it is now at this cluster time."""
        last = self._samples[-1]
        added_bytes = machine.history_bytes_added
        if machine.revision == last.revision or not (
            (self._step_ms is not None and time_ms - last.time_ms >= self._step_ms)
            or (self._step_bytes is not None and added_bytes - last.added_bytes >= self._step_bytes)
        ):
            return
        self._samples.append(HistorySample(time_ms, machine.revision, added_bytes))
        self._forget(machine.compacted_revision)

    def _forget(self, compacted_revision: int) -> None:
        samples = self._samples
        known = sum(1 for each in samples if each.revision <= compacted_revision)
        del samples[: max(0, known - 1)]
        if len(samples) > SAMPLES_MAX:
            del samples[1:-1:2]

    def revision_at(self, time_ms: int) -> int:
        """A revision that was current at this time or, by a sample at most, before; 0: unknown."""
        earlier = [each.revision for each in self._samples if each.time_ms <= time_ms]
        return earlier[-1] if earlier else 0

    def revision_keeping(self, kept_bytes: int, machine: StateMachine) -> int:
        """The oldest revision from which on history has about `kept_bytes` at most."""
        present = HistorySample(0, machine.revision, machine.history_bytes_added)
        wanted = present.added_bytes - kept_bytes
        before = self._samples[0]
        if before.added_bytes >= wanted:
            return before.revision
        for after in (*self._samples[1:], present):
            if after.added_bytes >= wanted:
                revisions, added = after.revision - before.revision, wanted - before.added_bytes
                # Rounded up: the part before this revision has at least the bytes to remove.
                return before.revision - -added * revisions // (
                    after.added_bytes - before.added_bytes
                )
            before = after
        return present.revision

    def bytes_kept(self, machine: StateMachine) -> int:
        """About how many bytes of history are not compacted."""
        compacted = machine.compacted_revision
        present = HistorySample(0, machine.revision, machine.history_bytes_added)
        before = self._samples[0]
        for after in (*self._samples[1:], present):
            if after.revision > compacted:
                share = max(0, compacted - before.revision) / (after.revision - before.revision)
                at = before.added_bytes + share * (after.added_bytes - before.added_bytes)
                return present.added_bytes - int(at)
            before = after
        return 0


class HistoryPins:
    """The revisions that reads and watches of this node's clients need, each for `pin_s_max`."""

    def __init__(self, pin_s_max: float) -> None:
        self._pin_s_max = pin_s_max
        self._pins: deque[tuple[float, int]] = deque()
        """The first moment of a second or less, and the oldest revision that was pinned in it."""

    def pin(self, revision: int, now_s: float) -> None:
        """Somebody needs this revision and later ones."""
        if self._pins and now_s - self._pins[-1][0] < min(1.0, self._pin_s_max / 4):
            since_s, oldest = self._pins[-1]
            self._pins[-1] = since_s, min(oldest, revision)
        else:
            self._pins.append((now_s, revision))

    def oldest(self, present: int, now_s: float) -> int:
        """The oldest revision that is needed, at most the present one."""
        while self._pins and now_s - self._pins[0][0] > self._pin_s_max:
            self._pins.popleft()
        return min((revision for _, revision in self._pins), default=present)

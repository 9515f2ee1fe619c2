"""Clocks: the current time of one process, advanced by its events, shared by its threads.

The durable clocks in `raftkv.clocks.durable` override `_keep`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from raftkv.arguments import to_callable, to_instance, to_int64
from raftkv.clocks.hybrid import HybridTime
from raftkv.clocks.lamport import LamportTime
from raftkv.clocks.vector import VectorTime

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger


DRIFT_MS_MAX = 1000

TimeT = TypeVar("TimeT", bound=LamportTime | VectorTime | HybridTime)


class _Clock(Generic[TimeT]):
    """A time that only `_move` changes, under `_lock`."""

    def __init__(self, start: TimeT) -> None:
        self._lock = threading.Lock()
        self._now = start

    @property
    def now(self) -> TimeT:
        """The time of the latest local event."""
        return self._now

    def _move(self, to: TimeT) -> TimeT:
        self._keep(to)
        self._now = to
        return to

    def _keep(self, to: TimeT) -> None:
        """Called before `to` is issued. If it raises, the clock keeps its time."""


class LamportClock(_Clock[LamportTime]):
    """Lamport time of one process, from `start` on."""

    def __init__(self, start: LamportTime | None = None) -> None:
        super().__init__(_to_start(start, LamportTime))

    def tick(self) -> LamportTime:
        """The time of a local event, or of a message that is about to be sent."""
        with self._lock:
            return self._move(self._now.tick())

    def receive(self, other: LamportTime) -> LamportTime:
        """The time of the arrival of a message. Raises as `LamportTime.receive`."""
        with self._lock:
            return self._move(self._now.receive(other))

    def observe(self, other: LamportTime) -> None:
        """Advance past a received time without an event of its own. Raises as `receive`."""
        with self._lock:
            self._move(self._now.observe(other))


class VectorClock(_Clock[VectorTime]):
    """Vector time at `member`, from `start` on."""

    def __init__(self, member: str, start: VectorTime | None = None) -> None:
        """Raises `InvalidRequest` if the member is retired in `start`, or its name is invalid."""
        super().__init__(_to_start(start, VectorTime).with_member(member))
        self.member = member

    def tick(self) -> VectorTime:
        """The time of a local event, or of a message that is about to be sent."""
        with self._lock:
            return self._move(self._now.tick(self.member))

    def receive(self, other: VectorTime) -> VectorTime:
        """The time of the arrival of a message. Raises as `VectorTime.receive`."""
        with self._lock:
            return self._move(self._now.receive(other, self.member))

    def add_member(self, member: str) -> VectorTime:
        """Add a member, as a local event. Raises as `VectorTime.with_member`."""
        with self._lock:
            return self._move(self._now.with_member(member).tick(self.member))

    def retire_member(self, member: str) -> VectorTime:
        """Retire a member, as a local event; see `raftkv.clocks.vector` for the cost.

        Raises `InvalidRequest` if it is the member of this clock.
        """
        with self._lock:
            return self._move(self._now.without_member(member).tick(self.member))


def _to_start(start: TimeT | None, kind: type[TimeT]) -> TimeT:
    return kind() if start is None else to_instance(start, kind, "start", f"a {kind.__name__}")


def wall_clock_ms() -> int:
    """This machine's wall clock, which may jump, also backwards."""
    return time.time_ns() // 1_000_000


class HybridClock(_Clock[HybridTime]):
    """Hybrid time of one process with the wall clock `wall_ms`."""

    def __init__(
        self,
        start: HybridTime | None = None,
        *,
        wall_ms: Callable[[], int] = wall_clock_ms,
        drift_ms_max: int = DRIFT_MS_MAX,
    ) -> None:
        super().__init__(_to_start(start, HybridTime))
        self._wall_ms = to_callable(wall_ms, "wall_ms")
        self._drift_ms_max = to_int64(drift_ms_max, "drift_ms_max", 0)

    def tick(self) -> HybridTime:
        """The time of a local event, or of a message that is about to be sent."""
        with self._lock:
            return self._move(self._now.tick(self._wall_ms()))

    def receive(self, other: HybridTime) -> HybridTime:
        """The time of the arrival of a message. Raises `ClockDrift`, see `HybridTime.receive`."""
        with self._lock:
            return self._move(self._now.receive(other, self._wall_ms(), self._drift_ms_max))


def stamp(clock: LamportClock) -> Processor:
    """A processor that ticks the clock for each event, and adds the time as `lamport`.

    Put it after processors that drop events. Lines sorted by (lamport, node) are in causal order,
    provided that the messages between the nodes carry the same clocks.
    """

    to_instance(clock, LamportClock, "clock", "a LamportClock")

    def add_stamp(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
        event_dict["lamport"] = clock.tick().value
        return event_dict

    return add_stamp

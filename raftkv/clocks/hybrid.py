"""Hybrid logical time: close to the wall clock, and never in contradiction to causality.

After Kulkarni, Demirbas, Madappa, Avva and Leone, "Logical Physical Clocks" (2014), figure 5.
`physical_ms` is the highest known reading of a wall clock (the paper's l), and `logical` counts the
events that share it (the paper's c). If all wall clocks differ by less than a bound, each time
differs from its local wall clock by less than that. Wall clock readings are arguments.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from raftkv.arguments import to_int
from raftkv.errors import ClockDrift, InvalidRequest

# 48 bits of milliseconds reach the year 10889; with 16 bits of counter a time is 8 bytes.
PHYSICAL_MS_MAX = (1 << 48) - 1
LOGICAL_MAX = (1 << 16) - 1

_WIRE = struct.Struct(">Q")
_TEXT = re.compile(r"([0-9]{15})\.([0-9]{5})")


@dataclass(frozen=True, slots=True, order=True)
class HybridTime:
    """A point of hybrid time. If event a could have influenced event b, a's time is lower (`<`)."""

    physical_ms: int = 0
    logical: int = 0

    def __post_init__(self) -> None:
        to_int(self.physical_ms, "physical_ms", 0, PHYSICAL_MS_MAX)
        to_int(self.logical, "logical", 0, LOGICAL_MAX)

    def tick(self, wall_ms: int) -> HybridTime:
        """The time of the next local event, at which the wall clock shows `wall_ms`."""
        return HybridTime(wall_ms) if wall_ms > self.physical_ms else self._next()

    def merge(self, other: HybridTime) -> HybridTime:
        """The later of the two: the least time that is not before either."""
        return self if self >= other else other

    def receive(self, other: HybridTime, wall_ms: int, drift_ms_max: int) -> HybridTime:
        """The time of the event "a message stamped `other` arrived here".

        Raises `ClockDrift` if `other` is more than `drift_ms_max` ahead of the local wall clock:
        one fast clock must not advance all others.
        """
        ahead_ms = other.physical_ms - wall_ms
        if ahead_ms > drift_ms_max:
            raise ClockDrift(
                f"hybrid time {other} is {ahead_ms} ms ahead of this machine's clock, more than"
                f" the {drift_ms_max} ms allowed: set the clocks of both machines",
                ahead_ms=ahead_ms,
                drift_ms_max=drift_ms_max,
            )
        return self.merge(other).tick(wall_ms)

    def encode(self) -> bytes:
        """8 bytes, big-endian: they sort as the times do."""
        return _WIRE.pack(self.physical_ms << 16 | self.logical)

    @classmethod
    def decode(cls, data: bytes) -> HybridTime:
        """Inverse of `encode`; raises `InvalidRequest` for anything else."""
        if len(data) != _WIRE.size:
            raise InvalidRequest(f"a hybrid time is {_WIRE.size} bytes, not {len(data)}")
        number = _WIRE.unpack(data)[0]
        return cls(number >> 16, number & LOGICAL_MAX)

    @classmethod
    def parse(cls, text: str) -> HybridTime:
        """Inverse of `str`; raises `InvalidRequest` for anything else."""
        parts = _TEXT.fullmatch(text)
        if parts is None:
            raise InvalidRequest(f"{text!r} is no hybrid time: 15 digits, a dot, 5 digits")
        return cls(int(parts[1]), int(parts[2]))

    def __str__(self) -> str:
        """Milliseconds and counter with leading zeros: texts sort as the times do."""
        return f"{self.physical_ms:015d}.{self.logical:05d}"

    def _next(self) -> HybridTime:
        # A full counter takes the next millisecond instead of failing: the order matters more than
        # the distance to the wall clock. It takes 65,536 events in one millisecond.
        if self.logical == LOGICAL_MAX:
            return HybridTime(self.physical_ms + 1)
        return HybridTime(self.physical_ms, self.logical + 1)

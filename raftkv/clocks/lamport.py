"""Lamport time: one number whose order never contradicts causality.

The clock condition (Lamport 1978): if event a happened before event b, then a's time is lower. The
converse does not hold: a lower time proves only that b did not happen before a.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from raftkv.arguments import to_int
from raftkv.errors import InvalidRequest

VALUE_MAX = (1 << 64) - 1
# Received times must be in the lower half, so that no peer can exhaust our clock.
RECEIVED_MAX = (1 << 63) - 1

_WIRE = struct.Struct(">Q")


@dataclass(frozen=True, slots=True, order=True)
class LamportTime:
    """A point of Lamport time. `<` is the order of the numbers, which may tie.

    For a total order of the events of several nodes, sort by (time, node).
    """

    value: int = 0

    def __post_init__(self) -> None:
        to_int(self.value, "value", 0, VALUE_MAX)

    def tick(self) -> LamportTime:
        """The time of the next local event."""
        return LamportTime(self.value + 1)

    def merge(self, other: LamportTime) -> LamportTime:
        """The later of the two: the least time that is not before either."""
        return self if self.value >= other.value else other

    def receive(self, other: LamportTime) -> LamportTime:
        """The time of the event "a message stamped `other` arrived here".

        Raises `InvalidRequest` for a time that no correct clock has reached.
        """
        return self.observe(other).tick()

    def observe(self, other: LamportTime) -> LamportTime:
        """As `receive`, without an event for the arrival: only later events have later times."""
        if other.value > RECEIVED_MAX:
            raise InvalidRequest(f"Lamport time {other.value} is over {RECEIVED_MAX}: not a count")
        return self.merge(other)

    def encode(self) -> bytes:
        """8 bytes, big-endian: they sort as the times do."""
        return _WIRE.pack(self.value)

    @classmethod
    def decode(cls, data: bytes) -> LamportTime:
        """Inverse of `encode`; raises `InvalidRequest` for anything else."""
        if len(data) != _WIRE.size:
            raise InvalidRequest(f"a Lamport time is {_WIRE.size} bytes, not {len(data)}")
        return cls(_WIRE.unpack(data)[0])

    def __str__(self) -> str:
        return str(self.value)

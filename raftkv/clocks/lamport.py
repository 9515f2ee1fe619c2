"""Lamport time: one number that never contradicts cause and effect. Pure; knows no clock, no wire.

The clock condition (Lamport 1978): if event a could have influenced event b, then a's time is
lower. The converse does not hold: a lower time proves only that b did not influence a.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from raftkv.arguments import to_int
from raftkv.errors import InvalidRequest

VALUE_MAX = (1 << 64) - 1
# From others we take only the lower half, so nobody can leave our own clock without room to tick.
RECEIVED_MAX = (1 << 63) - 1

_WIRE = struct.Struct(">Q")


@dataclass(frozen=True, slots=True, order=True)
class LamportTime:
    """A point of Lamport time. `<` is the order of the numbers; events of one number may tie.

    For a total order of the events of several nodes, sort by (time, node).
    """

    value: int = 0

    def __post_init__(self) -> None:
        to_int(self.value, "value", 0, VALUE_MAX)

    def tick(self) -> LamportTime:
        """The time of the next event at the same place."""
        return LamportTime(self.value + 1)

    def merge(self, other: LamportTime) -> LamportTime:
        """The later of the two: the least time that contradicts neither."""
        return self if self.value >= other.value else other

    def receive(self, other: LamportTime) -> LamportTime:
        """The time of the event "a message stamped `other` arrived here".

        Raises `InvalidRequest` for a stamp that no honest clock has reached.
        """
        return self.observe(other).tick()

    def observe(self, other: LamportTime) -> LamportTime:
        """As `receive`, but the arrival is no event: only what happens next is later."""
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

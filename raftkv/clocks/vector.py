"""Vector time: decides which of two events happened before the other, or that they are concurrent.

A vector has one counter per member. Event a happened before event b if and only if no counter of
a's vector is greater and some counter is less (Fidge 1988, Mattern 1989). A missing member counts
as 0, so **adding** a member is simple: `with_member` adds a 0, and old and new vectors compare as
before.

**Retiring** a member (`without_member`) drops its counter and adds its name to `retired`: - The
order of events at the remaining members does not change: a at member i happened before b if and
only if b's vector counts at least a's number at i. - Events *at the retired member* lose their
number. Two of them without a received message in between become equal. So retire a member when its
last events no longer matter. - Vectors with different retired members can't be compared
(`ClocksIncomparable`), because the vector with the extra counter would appear greater. Retire the
same members in both first. `merge` does so by itself: the result has the retired members of both. -
The name stays retired for ever, because a returning member would start at 0 among vectors with
higher counts of it. A new member needs a new name.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from raftkv.arguments import shown, to_instance, to_int, to_text
from raftkv.errors import ClocksIncomparable, InvalidRequest

COUNT_MAX = (1 << 64) - 1
# Received counts must be in the lower half, so that no peer can exhaust our own count.
RECEIVED_MAX = (1 << 63) - 1
NAME_BYTES_MAX = 64


class Order(enum.Enum):
    """The order of the left event relative to the right one."""

    BEFORE = "before"
    AFTER = "after"
    EQUAL = "equal"
    CONCURRENT = "concurrent"


@dataclass(frozen=True, slots=True, eq=False)
class VectorTime:
    """A point of vector time: member -> number of its known events. Zero counts do not matter."""

    counts: Mapping[str, int] = field(default_factory=dict)
    retired: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        to_instance(self.counts, Mapping, "counts", "a mapping of members to numbers")
        to_instance(self.retired, frozenset, "retired", "a frozenset of members")
        for name in self.counts:
            _check_name(name, "a member in counts")
        for name in self.retired:
            _check_name(name, "a member in retired")
        for name, count in self.counts.items():
            to_int(count, f"the count of {name!r} in counts", 0, COUNT_MAX)
            if name in self.retired:
                raise InvalidRequest(f"member {name!r} is retired and has no count any more")
        object.__setattr__(self, "counts", MappingProxyType(dict(self.counts)))

    def count(self, member: str) -> int:
        """The number of known events of the member."""
        return self.counts.get(member, 0)

    def with_member(self, member: str) -> VectorTime:
        """The same time with the member named in it. Raises `InvalidRequest` if it is retired."""
        self._refuse_retired(member)
        return VectorTime({member: 0, **self.counts}, self.retired)

    def without_member(self, member: str) -> VectorTime:
        """The same time with the member retired; see the module for the cost."""
        kept = {name: count for name, count in self.counts.items() if name != member}
        return VectorTime(kept, self.retired | {member})

    def tick(self, member: str) -> VectorTime:
        """The time of the next event at the member. Raises `InvalidRequest` if it is retired."""
        self._refuse_retired(member)
        return VectorTime({**self.counts, member: self.count(member) + 1}, self.retired)

    def merge(self, other: VectorTime) -> VectorTime:
        """The least time that is not before either, with the retired members of both."""
        retired = self.retired | other.retired
        names = (self.counts.keys() | other.counts.keys()) - retired
        counts = {name: max(self.count(name), other.count(name)) for name in names}
        return VectorTime(counts, retired)

    def receive(self, other: VectorTime, member: str) -> VectorTime:
        """The time of the event "a message stamped `other` arrived at the member".

        Raises `InvalidRequest` if the member is retired in either, or for a count that no correct
        clock has reached.
        """
        if max(other.counts.values(), default=0) > RECEIVED_MAX:
            raise InvalidRequest(f"a vector time with a count over {RECEIVED_MAX} is no count")
        return self.merge(other).tick(member)

    def compare(self, other: VectorTime) -> Order:
        """The order of this time relative to the other.

        Raises `ClocksIncomparable` if they have different retired members.
        """
        if self.retired != other.retired:
            names = ", ".join(sorted(self.retired ^ other.retired))
            raise ClocksIncomparable(
                f"only one of the two times has retired {names}: comparing them could call"
                " concurrent events ordered; retire the same members in both first",
                members=names,
            )
        below = all(count <= other.count(name) for name, count in self.counts.items())
        above = all(count <= self.count(name) for name, count in other.counts.items())
        if below:
            return Order.EQUAL if above else Order.BEFORE
        return Order.AFTER if above else Order.CONCURRENT

    def happened_before(self, other: VectorTime) -> bool:
        """Whether this event happened before the other. Raises as `compare`."""
        return self.compare(other) is Order.BEFORE

    def concurrent(self, other: VectorTime) -> bool:
        """Whether neither event happened before the other. Raises as `compare`."""
        return self.compare(other) is Order.CONCURRENT

    def encode(self) -> bytes:
        """Counts and retired names, sorted: the same vector always has the same bytes."""
        parts = [len(self.counts).to_bytes(2, "big")]
        for name, count in sorted(self.counts.items()):
            parts += (_encode_name(name), count.to_bytes(8, "big"))
        parts += map(_encode_name, sorted(self.retired))
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> VectorTime:
        """Inverse of `encode`; raises `InvalidRequest` for anything else."""
        if len(data) < 2:
            raise InvalidRequest(f"a vector time has at least 2 bytes, not {len(data)}")
        counts, at = {}, 2
        for _ in range(int.from_bytes(data[:2], "big")):
            name, at = _decode_name(data, at)
            counts[name] = int.from_bytes(data[at : at + 8], "big")
            at += 8
        retired = set()
        while at < len(data):
            name, at = _decode_name(data, at)
            retired.add(name)
        time = cls(counts, frozenset(retired))
        # Each time has one encoding, so this also finds truncated, duplicate or unsorted names.
        if time.encode() != data:
            raise InvalidRequest("these bytes are cut off, or not in the form of a vector time")
        return time

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VectorTime):
            return NotImplemented
        return self._known() == other._known() and self.retired == other.retired

    def __hash__(self) -> int:
        return hash((self._known(), self.retired))

    def __str__(self) -> str:
        counts = " ".join(f"{name}:{count}" for name, count in sorted(self.counts.items()))
        gone = " ".join(f"-{name}" for name in sorted(self.retired))
        return f"[{counts}{' ' if counts and gone else ''}{gone}]"

    def _known(self) -> frozenset[tuple[str, int]]:
        return frozenset((name, count) for name, count in self.counts.items() if count)

    def _refuse_retired(self, member: str) -> None:
        _check_name(member, "member")
        if member in self.retired:
            raise InvalidRequest(f"member {member!r} is retired: come back under a new name")


def _check_name(name: str, field: str) -> None:
    if not 0 < len(to_text(name, field).encode()) <= NAME_BYTES_MAX:
        raise InvalidRequest(
            f"{field} is {shown(name)}; give a name of 1 to {NAME_BYTES_MAX} bytes"
        )


def _encode_name(name: str) -> bytes:
    data = name.encode()
    return len(data).to_bytes(1, "big") + data


def _decode_name(data: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + (data[at] if at < len(data) else 0)
    try:
        return data[at + 1 : end].decode(), end
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"a member's name in a vector time is not UTF-8: {error}") from error

"""Random protobuf messages of any type, with values at the bounds, and bytes nearly like them."""

from __future__ import annotations

from random import Random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

DEPTH_MAX = 5
NESTED_MAX = 3
REPEATED = (0, 1, 1, 2, 3)
MANY = (200, 2_000)
MANY_CHANCE = 0.01
FIELD_CHANCE = 0.6

_INTEGERS = (0, 1, 2, 3, 127, 128, 1_000, 60_000, 2**31 - 1, 2**31, 2**32 - 1, 2**53)
_SIGNED_64 = (*_INTEGERS, 2**63 - 1, -1, -2, -(2**63))
_UNSIGNED_64 = (*_INTEGERS, 2**63, 2**64 - 1)
_SIGNED_32 = (0, 1, 2, 3, 127, 2**31 - 1, -1, -(2**31))
_UNSIGNED_32 = (0, 1, 2, 127, 1_000, 60_000, 2**31, 2**32 - 1)
_BYTES = (b"", b"\x00", b"a", b"k/1", b"k/2", b"k0", b"queue", b"\xff", b"\xff" * 16, b"k" * 8193)
_STRINGS = ("", "a", "127.0.0.1:9", "127.0.0.1:99999", "ü\u202e\x00", "x" * 400, "no-such-level")
_LARGE_BYTES = (100_000, 1 << 20)

_NUMBERS: dict[int, tuple[int, ...]] = {
    FieldDescriptor.TYPE_INT64: _SIGNED_64,
    FieldDescriptor.TYPE_SINT64: _SIGNED_64,
    FieldDescriptor.TYPE_SFIXED64: _SIGNED_64,
    FieldDescriptor.TYPE_UINT64: _UNSIGNED_64,
    FieldDescriptor.TYPE_FIXED64: _UNSIGNED_64,
    FieldDescriptor.TYPE_INT32: _SIGNED_32,
    FieldDescriptor.TYPE_SINT32: _SIGNED_32,
    FieldDescriptor.TYPE_SFIXED32: _SIGNED_32,
    FieldDescriptor.TYPE_ENUM: _SIGNED_32,  # proto3 enums are open: any number is valid
    FieldDescriptor.TYPE_UINT32: _UNSIGNED_32,
    FieldDescriptor.TYPE_FIXED32: _UNSIGNED_32,
}


# ---- what can be read ------------------------------------------------------------------


def random_message(rng: Random, descriptor: Descriptor, depth: int = 0) -> Message:
    """A message of this type that protobuf can write and read."""
    message: Message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        group = field.containing_oneof
        if group is not None:
            if rng.randrange(len(group.fields)) == 0:  # a later one of the group replaces it
                _set(rng, message, field, depth)
        elif rng.random() < FIELD_CHANCE:
            _set(rng, message, field, depth)
    return message


def _set(rng: Random, message: Message, field: FieldDescriptor, depth: int) -> None:
    of_messages = field.message_type is not None
    if of_messages and depth >= DEPTH_MAX:
        return
    if of_messages and field.message_type.GetOptions().map_entry:
        getattr(message, field.name)[rng.choice(_STRINGS)] = rng.choice(_STRINGS)
    elif field.is_repeated:
        many = depth < 2 and rng.random() < MANY_CHANCE
        count = rng.choice(MANY if many else REPEATED)
        values = getattr(message, field.name)
        if of_messages:
            few = [
                random_message(rng, field.message_type, depth + 1)
                for _ in range(min(count, NESTED_MAX))
            ]
            values.extend(few[n % len(few)] for n in range(count))
        else:
            values.extend(_value(rng, field) for _ in range(count))
    elif of_messages:
        nested = random_message(rng, field.message_type, depth + 1)
        getattr(message, field.name).CopyFrom(nested)
    else:
        setattr(message, field.name, _value(rng, field))


def _value(rng: Random, field: FieldDescriptor) -> Any:
    numbers = _NUMBERS.get(field.type)
    if numbers is not None:
        # Half of the enums are numbers that they have: nothing gets far with the others.
        if field.enum_type is not None and rng.random() < 0.5:
            return rng.choice(field.enum_type.values).number
        return rng.choice(numbers)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return rng.random() < 0.5
    if field.type == FieldDescriptor.TYPE_STRING:
        return rng.choice(_STRINGS)
    if rng.random() < 0.01:
        return bytes(1) * rng.choice(_LARGE_BYTES)
    if field.name in CARRIED and rng.random() < 0.8:
        # Bytes that are a message themselves, and are read as one.
        return random_message(rng, CARRIED[field.name]).SerializeToString()
    return rng.choice(_BYTES)


CARRIED: dict[str, Descriptor] = {}
"""Names of fields of bytes that hold a message, and its type."""


# ---- what can't ------------------------------------------------------------------------


def mutated(rng: Random, data: bytes) -> bytes:
    """These bytes with something wrong; now and then they can be read all the same."""
    for _ in range(rng.choice((1, 1, 2, 5))):
        data = rng.choice(MUTATIONS)(rng, data)
    return data


def unreadable(rng: Random, descriptor: Descriptor) -> bytes:
    """Bytes that are no message of this type."""
    kind = GetMessageClass(descriptor)
    while True:
        data = mutated(rng, random_message(rng, descriptor).SerializeToString())
        try:
            kind.FromString(data)
        except DecodeError:
            return data


def _truncate(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _flip(rng: Random, data: bytes) -> bytes:
    flipped = bytearray(data)
    for _ in range(min(len(data), rng.choice((1, 3, 20)))):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def _insert(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(_SPLINTERS) + data[at:]


def _repeat(rng: Random, data: bytes) -> bytes:
    return data * min(rng.choice((2, 10, 500)), 1 + (1 << 20) // (len(data) + 1))


def _nest(rng: Random, data: bytes) -> bytes:
    """Within as many messages as a field of its own number."""
    tag = rng.choice((b"\x0a", b"\x12", b"\x1a", b"\x22"))
    for _ in range(rng.choice((30, 99, 101, 1_000))):
        data = tag + varint(len(data)) + data
        if len(data) > 1 << 20:
            break
    return data


def _garbage(rng: Random, _: bytes) -> bytes:
    return rng.randbytes(rng.choice((0, 1, 7, 100, 10_000)))


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


# Tags with other wire types, groups that never end, lengths that nothing has, endless varints.
_SPLINTERS = (
    *(bytes([number << 3 | kind]) for number in (0, 1, 2, 15) for kind in range(8)),
    *(b"\x0a" + varint(length) for length in (2**31 - 1, 2**31, 2**32, 2**63, 2**64 - 1)),
    b"\x0b" * 200,
    b"\xff" * 11,
    b"\x08" + b"\x80" * 9 + b"\x01",
    varint(2**29 - 1 << 3 | 2) + b"\x04ohno",
)
MUTATIONS = (_truncate, _flip, _insert, _repeat, _nest, _garbage)

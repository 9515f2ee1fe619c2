"""Clocks in the metadata of gRPC calls: which key, what is taken, what is ignored. Imports no gRPC.

| key | value |
|---|---|
| `raftkv-lamport-bin` | `LamportTime.encode`, 8 bytes |
| `raftkv-hybrid-bin` | `HybridTime.encode`, 8 bytes |
| `raftkv-vector-bin` | `VectorTime.encode`, at most 4 KiB |

A client stamps its call when it begins. The server takes that over before the handler runs, and
stamps the trailing metadata when the handler has ended, also with an error. The client takes it
over before the result, or the end of the stream, reaches its caller. So a stream carries time
at its two ends and not with each message: whoever must order those puts times into them.

A stranger's stamp that is malformed, too far ahead, or names us as retired is ignored; the call
goes on, and so does the clock. Strangers who lie within these bounds can still push a clock
forward: carry clocks among callers that trust each other. A vector that has outgrown its 4 KiB
is not sent (gRPC refuses calls with more than 8 KiB of metadata altogether).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from raftkv.clocks.holders import HybridClock, LamportClock, VectorClock
from raftkv.clocks.hybrid import HybridTime
from raftkv.clocks.lamport import LamportTime
from raftkv.clocks.vector import VectorTime
from raftkv.errors import InvalidRequest, Refused

LAMPORT_KEY = "raftkv-lamport-bin"
HYBRID_KEY = "raftkv-hybrid-bin"
VECTOR_KEY = "raftkv-vector-bin"
STAMP_BYTES_MAX = 4096

AnyClock: TypeAlias = LamportClock | VectorClock | HybridClock
Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]


def stamped(clock: AnyClock, metadata: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
    """The metadata with the time of this sending, which is an event of the clock's, added.

    Raises `StorageError` if the clock is durable and its disk fails.
    """
    key, data = _key(clock), clock.tick().encode()
    rest = tuple(pair for pair in metadata or () if pair[0] != key)
    return (*rest, (key, data)) if len(data) <= STAMP_BYTES_MAX else rest


def take_over(clock: AnyClock, metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
    """Move the clock behind the time in the metadata; without a usable one nothing happens.

    Raises `StorageError` if the clock is durable and its disk fails.
    """
    key = _key(clock)
    data = next((value for name, value in metadata or () if name == key), None)
    if not isinstance(data, bytes) or len(data) > STAMP_BYTES_MAX:
        return
    try:
        match clock:
            case LamportClock():
                clock.receive(LamportTime.decode(data))
            case HybridClock():
                clock.receive(HybridTime.decode(data))
            case VectorClock():
                clock.receive(VectorTime.decode(data))
    except (InvalidRequest, Refused):
        # Whoever sent it gains nothing; whoever is called must not fail for it.
        return


def _key(clock: AnyClock) -> str:
    match clock:
        case LamportClock():
            return LAMPORT_KEY
        case HybridClock():
            return HYBRID_KEY
        case VectorClock():
            return VECTOR_KEY

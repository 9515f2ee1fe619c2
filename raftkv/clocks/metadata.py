"""Clocks in the metadata of gRPC calls: the keys, and the handling of received times.

| key | value |
|---|---|
| `raftkv-lamport-bin` | `LamportTime.encode`, 8 bytes |
| `raftkv-hybrid-bin` | `HybridTime.encode`, 8 bytes |
| `raftkv-vector-bin` | `VectorTime.encode`, at most 4 KiB |

A client stamps its call at the start. The server receives that time before the handler runs, and
stamps the trailing metadata after the handler has ended, also with an error. The client receives
that time before its caller gets the result or the end of the stream. A stream therefore carries
times only at its start and end; to order its messages, put times into them.

A received time that is malformed, too far ahead, or has the receiver retired is ignored, and the
call continues. A peer can still advance a clock within these bounds, so exchange clocks only with
trusted peers. A vector of more than 4 KiB is not sent (gRPC refuses calls with more than 8 KiB of
metadata).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from raftkv.clocks.clock import HybridClock, LamportClock, VectorClock
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
    """The metadata with the time of this message, which is an event of the clock.

    Raises `StorageError` if the clock is durable and its disk fails.
    """
    key, data = _key(clock), clock.tick().encode()
    rest = tuple(pair for pair in metadata or () if pair[0] != key)
    return (*rest, (key, data)) if len(data) <= STAMP_BYTES_MAX else rest


def receive_from(clock: AnyClock, metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
    """Receive the time in the metadata, if there is a valid one.

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
        # A bad time has no effect, and the call must not fail because of it.
        return


def _key(clock: AnyClock) -> str:
    match clock:
        case LamportClock():
            return LAMPORT_KEY
        case HybridClock():
            return HYBRID_KEY
        case VectorClock():
            return VECTOR_KEY

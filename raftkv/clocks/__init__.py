"""Logical clocks: what happened before what, without trusting anybody's wall clock.

| time | answers | costs |
|---|---|---|
| `LamportTime` | an order that never contradicts cause and effect | 8 bytes |
| `VectorTime` | which event influenced which, or neither did | a count per member |
| `HybridTime` | as Lamport's, and near the wall clock | 8 bytes, clocks that are set |

A time is an immutable value with pure functions: `tick` (the next event here), `merge` (the least
that is not before either), `receive` (a message arrived). A clock holds the present time of one
place; threads may share it. A durable one survives a crash without repeating a time.

    from raftkv.clocks import Order, VectorClock

    ann, bob = VectorClock("ann"), VectorClock("bob")
    sent = ann.tick()                        # ann sends a message stamped with this
    alone = bob.tick()                       # bob does something without knowing
    assert sent.compare(alone) is Order.CONCURRENT
    heard = bob.receive(sent)                # the message arrives
    assert sent.happened_before(heard)
    assert str(heard) == "[ann:1 bob:2]"

    from raftkv.clocks import DurableLamportClock

    with DurableLamportClock(directory / "clock") as clock:
        before = clock.tick()
    with DurableLamportClock(directory / "clock") as clock:  # after a crash, or a restart
        assert clock.tick() > before

gRPC carries them in metadata: `raftkv.clocks.grpc_sync` and `raftkv.clocks.grpc_aio`, each with
`client_interceptors(clock)` and `server_interceptor(clock)` (which keys and when: `metadata`).
`stamp(clock)` is a structlog processor; raftkv stamps its own log lines with it.
"""

from raftkv.clocks.durable import DurableHybridClock, DurableLamportClock, DurableVectorClock
from raftkv.clocks.holders import HybridClock, LamportClock, VectorClock, wall_clock_ms
from raftkv.clocks.hybrid import HybridTime
from raftkv.clocks.lamport import LamportTime
from raftkv.clocks.log_stamp import stamp
from raftkv.clocks.vector import Order, VectorTime
from raftkv.errors import ClockDrift, ClocksIncomparable

__all__ = [
    "ClockDrift",
    "ClocksIncomparable",
    "DurableHybridClock",
    "DurableLamportClock",
    "DurableVectorClock",
    "HybridClock",
    "HybridTime",
    "LamportClock",
    "LamportTime",
    "Order",
    "VectorClock",
    "VectorTime",
    "stamp",
    "wall_clock_ms",
]

"""Logical clocks: the order of events across processes, without relying on wall clocks.

| time | answers | cost | |---|---|---| | `LamportTime` | an order of events that never contradicts
causality | 8 bytes | | `VectorTime` | which event happened before which, or that they are
concurrent | a count per member | | `HybridTime` | as Lamport time, and close to the wall clock | 8
bytes, synchronized clocks |

A time is an immutable value with pure functions: `tick` (the time of the next local event), `merge`
(the least time that is not before either), `receive` (the time of a message's arrival). A clock has
the current time of one process; threads may share it. A durable clock survives a crash without
repeating a time.

    from raftkv.clocks import Order, VectorClock

    ann, bob = VectorClock("ann"), VectorClock("bob")
    sent = ann.tick()                        # ann sends a message stamped with this
    alone = bob.tick()                       # an event at bob, before the message arrives
    assert sent.compare(alone) is Order.CONCURRENT
    received = bob.receive(sent)             # the message arrives
    assert sent.happened_before(received)
    assert str(received) == "[ann:1 bob:2]"

    from raftkv.clocks import DurableLamportClock

    with DurableLamportClock(directory / "clock") as clock:
        before = clock.tick()
    with DurableLamportClock(directory / "clock") as clock:  # after a crash, or a restart
        assert clock.tick() > before

gRPC carries them in metadata: `raftkv.clocks.grpc_sync` and `raftkv.clocks.grpc_aio`, each with
`client_interceptors(clock)` and `server_interceptor(clock)` (`raftkv.clocks.metadata` lists the
keys). `stamp(clock)` is a structlog processor; raftkv stamps its own log lines with it.
"""

from raftkv.clocks.clock import HybridClock, LamportClock, VectorClock, stamp, wall_clock_ms
from raftkv.clocks.durable import DurableHybridClock, DurableLamportClock, DurableVectorClock
from raftkv.clocks.hybrid import HybridTime
from raftkv.clocks.lamport import LamportTime
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

"""A structlog processor that stamps log events with Lamport time, to order lines across nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftkv.arguments import to_instance
from raftkv.clocks.holders import LamportClock

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger


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

"""Stamps log events with Lamport time, so that the lines of several nodes can be put in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftkv.arguments import to_instance
from raftkv.clocks.holders import LamportClock

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger


def stamp(clock: LamportClock) -> Processor:
    """A structlog processor: each event is one of the clock's, its time stands under `lamport`.

    Put it behind whatever drops events: what is not logged then costs nothing. Lines sorted by
    (lamport, node) are in an order that no message between the nodes contradicts, as far as the
    messages carry the same clock.
    """

    to_instance(clock, LamportClock, "clock", "a LamportClock")

    def add_stamp(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
        event_dict["lamport"] = clock.tick().value
        return event_dict

    return add_stamp

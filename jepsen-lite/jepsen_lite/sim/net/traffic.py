"""The frames between the nodes, one tuple for each event; only the latest events are kept.

`causality.py` decodes them after a run that failed.
"""

from __future__ import annotations

import enum
import itertools
from collections import deque
from typing import NamedTuple

from jepsen_lite.sim.world import World

EVENTS_MAX = 40_000
"""Half a minute has some thousands; a storm of messages must not fill the memory."""


class TrafficEventKind(enum.Enum):
    SENT = "sent"
    RECEIVED = "received"
    LOST = "lost"


class SentFrame(NamedTuple):
    """A frame, or a snapshot's announcement, on its way between two hosts."""

    number: int
    sender: str
    recipient: str
    data: bytes


class TrafficEvent(NamedTuple):
    """A sending that is duplicated is received twice, or both received and lost."""

    time_s: float
    what: TrafficEventKind
    sending: SentFrame


class Traffic:
    """`happenings` are in the order in which they happened."""

    def __init__(self, world: World, events_max: int = EVENTS_MAX) -> None:
        self.happenings: deque[TrafficEvent] = deque(maxlen=events_max)
        self._world = world
        self._numbers = itertools.count()

    def send(self, sender: str, recipient: str, data: bytes) -> SentFrame:
        """These bytes leave a node."""
        sending = SentFrame(next(self._numbers), sender, recipient, data)
        self._add(TrafficEventKind.SENT, sending)
        return sending

    def receive(self, sending: SentFrame) -> None:
        """The receiving node has got it."""
        self._add(TrafficEventKind.RECEIVED, sending)

    def lose(self, sending: SentFrame) -> None:
        """The network dropped it, or the recipient was down."""
        self._add(TrafficEventKind.LOST, sending)

    def _add(self, what: TrafficEventKind, sending: SentFrame) -> None:
        self.happenings.append(TrafficEvent(self._world.now_s, what, sending))

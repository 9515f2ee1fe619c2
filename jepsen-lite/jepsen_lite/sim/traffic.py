"""What passes between the nodes, as it happens: one tuple for each event, the oldest forgotten.

Knows bytes only. Most runs hold, and nobody ever looks: `causality.py` makes messages of this
after a run that failed.
"""

from __future__ import annotations

import enum
import itertools
from collections import deque
from typing import NamedTuple

from jepsen_lite.sim.world import World

EVENTS_MAX = 40_000
"""Half a minute has some thousands; a storm of messages must not fill the memory."""


class What(enum.Enum):
    SENT = "sent"
    RECEIVED = "received"
    LOST = "lost"


class Sending(NamedTuple):
    """A frame, or a snapshot's announcement, on its way between two hosts."""

    number: int
    sender: str
    recipient: str
    data: bytes


class Happening(NamedTuple):
    """A sending that is duplicated is received twice, or both received and lost."""

    time_s: float
    what: What
    sending: Sending


class Traffic:
    """`happenings` are in the order in which they happened."""

    def __init__(self, world: World, events_max: int = EVENTS_MAX) -> None:
        self.happenings: deque[Happening] = deque(maxlen=events_max)
        self._world = world
        self._numbers = itertools.count()

    def send(self, sender: str, recipient: str, data: bytes) -> Sending:
        """These bytes leave a node."""
        sending = Sending(next(self._numbers), sender, recipient, data)
        self._add(What.SENT, sending)
        return sending

    def receive(self, sending: Sending) -> None:
        """The receiving node has got it."""
        self._add(What.RECEIVED, sending)

    def lose(self, sending: Sending) -> None:
        """The network dropped it, or nobody was there to take it."""
        self._add(What.LOST, sending)

    def _add(self, what: What, sending: Sending) -> None:
        self.happenings.append(Happening(self._world.now_s, what, sending))

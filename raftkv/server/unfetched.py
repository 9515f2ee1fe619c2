"""Replies that clients have not fetched yet: counted for each call and in all, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import grpc

UNFETCHED_BYTES_MAX = 96 << 20
"""Of all calls and streams; above it no new work is begun whose replies would come on top."""

STALL_S_MAX = 10.0
"""A client that takes nothing of a reply for so long loses its connection."""

STALL_UNDER_PRESSURE_S_MAX = 1.0
"""The same, while the bytes in all are over their bound."""

LOOK_INTERVAL_S = 0.5


class Outgoing:
    """What waits for one call's client. Its writer says what it hands to the wire, and when."""

    __slots__ = ("_all", "bytes", "peer", "writing_since")

    def __init__(self, all_of_them: Unfetched, peer: str) -> None:
        self._all = all_of_them
        self.peer = peer
        self.bytes = 0
        self.writing_since: float | None = None

    @property
    def room_in_all(self) -> bool:
        """Whether the replies of all calls together leave room for more."""
        return self._all.has_room

    def add(self, size_bytes: int) -> None:
        """A reply waits from now on."""
        self.bytes += size_bytes
        self._all.bytes += size_bytes

    def written(self, size_bytes: int) -> None:
        """The client has fetched so much."""
        self.writing_since = None
        self.bytes -= size_bytes
        self._all.bytes -= size_bytes

    async def write(self, context: grpc.aio.ServicerContext[bytes, bytes], message: bytes) -> None:
        """Send one message and wait until the client takes it."""
        self.add(len(message))
        self.writing_since = self._all.now()
        await context.write(message)
        self.written(len(message))

    def cut(self) -> None:
        """End the client's connection."""
        self._all.cut((self.peer,))

    def close(self) -> None:
        """The call is over, and what waited for it is gone."""
        self._all.close(self)


class Unfetched:
    """All replies on their way. `cut` ends the connections of peers that fetch nothing."""

    def __init__(self, cut: Callable[[Collection[str]], None] = lambda _: None) -> None:
        self.cut = cut
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._calls: dict[Outgoing, None] = {}
        self._looking: asyncio.TimerHandle | None = None
        self.bytes = 0

    @property
    def has_room(self) -> bool:
        return self.bytes <= UNFETCHED_BYTES_MAX

    def open(self, peer: str) -> Outgoing:
        """For one call with `peer`, until it is closed."""
        outgoing = Outgoing(self, peer)
        self._calls[outgoing] = None
        if self._looking is None:
            self._looking = self._loop.call_later(LOOK_INTERVAL_S, self._look)
        return outgoing

    def close(self, outgoing: Outgoing) -> None:
        """See `Outgoing.close`."""
        if self._calls.pop(outgoing, True) is None:
            self.bytes -= outgoing.bytes
            outgoing.bytes = 0

    def _look(self) -> None:
        self._looking = None
        stall_s_max = STALL_S_MAX if self.has_room else STALL_UNDER_PRESSURE_S_MAX
        before = self._loop.time() - stall_s_max
        stalled = {
            each.peer: None
            for each in self._calls
            if each.writing_since is not None and each.writing_since < before
        }
        if stalled:
            self.cut(stalled)
        if self._calls:
            self._looking = self._loop.call_later(LOOK_INTERVAL_S, self._look)

"""Requests that are still arriving: a few calls are read at a time, and none for long.

gRPC takes a message into memory while it arrives, up to the largest that there may be.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import grpc

from raftkv.errors import InvalidRequest, Overloaded

ARRIVING_MAX = 24
"""Calls whose request is being read. Times a message's bytes: what half-sent requests can hold."""

ARRIVAL_S_MAX = 10.0
"""A request that has not arrived whole by then is refused."""

ARRIVAL_UNDER_PRESSURE_S_MAX = 0.25
"""The same, while others wait to be read."""

RETRY_AFTER_S = 0.5


class Arrivals:
    """Reads the first message of calls: a few at a time, in turn between connections."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reading: dict[asyncio.Timeout, None] = {}  # the one that began first is first
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by connection, in turn
        self._hurry: asyncio.TimerHandle | None = None

    async def read(self, context: grpc.aio.ServicerContext[bytes, bytes], peer: str) -> bytes:
        """The call's first message. Raises `InvalidRequest` if none comes, `Overloaded` if it takes
        too long."""
        began = self._loop.time()
        if len(self._reading) >= ARRIVING_MAX or self._waiting:
            await self._turn(peer)
        try:
            async with asyncio.timeout(ARRIVAL_S_MAX) as place:
                self._reading[place] = None
                try:
                    message: Any = await context.read()
                finally:
                    del self._reading[place]
                    self._let_next_in()
        except TimeoutError:
            took_s = self._loop.time() - began
            raise Overloaded(
                f"the request had not arrived whole after {took_s:.1f} s; send it again, at once",
                retry_after_s=RETRY_AFTER_S,
            ) from None
        if not isinstance(message, bytes):
            raise InvalidRequest("the call ended without a request; send one message")
        return message

    async def _turn(self, peer: str) -> None:
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.setdefault(peer, deque()).append(turn)
        self._hurry_the_first()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._let_next_in()
            raise
        finally:
            turn.cancel()

    def _let_next_in(self) -> None:
        """The place is the next one's: of the connection that has waited longest for a turn."""
        while self._waiting:
            peer, turns = next(iter(self._waiting.items()))
            del self._waiting[peer]
            turn = turns.popleft()
            if turns:
                self._waiting[peer] = turns
            if not turn.done():
                turn.set_result(None)
                return

    def _hurry_the_first(self) -> None:
        """Whoever has been read for long makes room, as long as somebody waits."""
        if self._hurry is None and self._waiting:
            self._hurry = self._loop.call_later(ARRIVAL_UNDER_PRESSURE_S_MAX, self._end_the_slow)

    def _end_the_slow(self) -> None:
        self._hurry = None
        if not self._waiting:
            return
        now = self._loop.time()
        for place in self._reading:
            deadline = place.when()
            if deadline is None or now < deadline - ARRIVAL_S_MAX + ARRIVAL_UNDER_PRESSURE_S_MAX:
                break
            if deadline > now:
                place.reschedule(now)
        self._hurry_the_first()

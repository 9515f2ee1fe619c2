"""Bounded reads of request messages: few calls are read at a time, and none for long.

gRPC buffers a message in memory while it arrives, up to the largest message allowed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import grpc

from raftkv.errors import InvalidRequest, Overloaded

READS_MAX = 24
"""Calls that are read at a time. Times the largest message: the memory of half-sent requests."""

READ_S_MAX = 10.0
"""A request that has not arrived completely by then is refused."""

READ_UNDER_PRESSURE_S_MAX = 0.25
"""The same, while other calls wait to be read."""

RETRY_AFTER_S = 0.5


class RequestReader:
    """Reads the first message of each call: few at a time, round robin between connections."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reading: dict[asyncio.Timeout, None] = {}  # oldest first
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by connection, round robin
        self._pressure_timer: asyncio.TimerHandle | None = None

    async def read(self, context: grpc.aio.ServicerContext[bytes, bytes], peer: str) -> bytes:
        """The call's first message. Raises `InvalidRequest` if the call ends without one, and
        `Overloaded` if the message takes too long.
        """
        began = self._loop.time()
        if len(self._reading) >= READS_MAX or self._waiting:
            await self._wait_for_slot(peer)
        try:
            async with asyncio.timeout(READ_S_MAX) as timeout:
                self._reading[timeout] = None
                try:
                    message: Any = await context.read()
                finally:
                    del self._reading[timeout]
                    self._start_next()
        except TimeoutError:
            took_s = self._loop.time() - began
            raise Overloaded(
                f"the request had not arrived completely after {took_s:.1f} s;"
                " send it again without pauses",
                retry_after_s=RETRY_AFTER_S,
            ) from None
        if not isinstance(message, bytes):
            raise InvalidRequest("the call ended without a request; send one message")
        return message

    async def _wait_for_slot(self, peer: str) -> None:
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.setdefault(peer, deque()).append(turn)
        self._limit_slow_reads()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._start_next()
            raise
        finally:
            turn.cancel()

    def _start_next(self) -> None:
        """Start the next read: of the connection that has waited longest since its last one."""
        while self._waiting:
            peer, turns = next(iter(self._waiting.items()))
            del self._waiting[peer]
            turn = turns.popleft()
            if turns:
                self._waiting[peer] = turns
            if not turn.done():
                turn.set_result(None)
                return

    def _limit_slow_reads(self) -> None:
        """While calls wait, time out the slow reads after the shorter limit."""
        if self._pressure_timer is None and self._waiting:
            self._pressure_timer = self._loop.call_later(
                READ_UNDER_PRESSURE_S_MAX, self._time_out_slow_reads
            )

    def _time_out_slow_reads(self) -> None:
        self._pressure_timer = None
        if not self._waiting:
            return
        now = self._loop.time()
        for timeout in self._reading:
            deadline = timeout.when()
            if deadline is None or now < deadline - READ_S_MAX + READ_UNDER_PRESSURE_S_MAX:
                break
            if deadline > now:
                timeout.reschedule(now)
        self._limit_slow_reads()

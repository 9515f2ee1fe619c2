"""The response queue of one watch stream: ordered, batched into messages, and bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from raftkv.rpc.v1 import api_pb2
from raftkv.server.traffic import CallTraffic, untracked
from raftkv.server.watch.filter import as_field

MESSAGE_BYTES_MAX: Final = 1 << 20
"""Of queued responses in one message; a single larger response has a message of its own."""

PAUSE_S: Final = 0.005
"""After each message: a lone response is sent at once, under load a message carries many."""

UNDER_PRESSURE_BYTES_MAX: Final = 64 << 10
"""Of one stream's queue, while the replies of all clients together are over their bound."""

HEADER_FIELD: Final = api_pb2.WatchReply.HEADER_FIELD_NUMBER
NEWS_FIELD: Final = api_pb2.WatchReply.NEWS_FIELD_NUMBER


class EncodedResponse(NamedTuple):
    """An encoded WatchNews: `ids` are the stream's own, `body` may be shared with other streams."""

    ids: bytes
    body: bytes


class ResponseStream:
    """A queue with a writer task. A producer that finds it `full` awaits `wait_for_room`."""

    def __init__(
        self,
        write: Callable[[bytes], Awaitable[None]],
        header: Callable[[], api_pb2.ReplyHeader],
        bytes_max: int,
        pause_s: float = PAUSE_S,
        traffic: CallTraffic | None = None,
    ) -> None:
        self.traffic = traffic or untracked()
        self._write = write
        self._header = header
        self._bytes_max = bytes_max
        self._pause_s = pause_s
        self._bytes = 0
        self._queue: deque[EncodedResponse] = deque()
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._ending = False

    @property
    def full(self) -> bool:
        return self._bytes > self._bytes_max or (
            self._bytes > UNDER_PRESSURE_BYTES_MAX and not self.traffic.room_in_all
        )

    def push(self, response: EncodedResponse) -> None:
        """Queue the response, even if the queue is full."""
        self._queue.append(response)
        size = len(response.ids) + len(response.body)
        self._bytes += size
        self.traffic.add(size)
        if self._bytes > self._bytes_max // 2:
            self._room.clear()
        self._filled.set()

    async def wait_for_room(self) -> None:
        """Wait until at least half of the queue is free."""
        await self._room.wait()

    def end(self) -> None:
        """Send what is queued, then end `run`."""
        self._ending = True
        self._filled.set()

    async def run(self) -> None:
        """Write until `end`; each message carries all that is queued, up to `MESSAGE_BYTES_MAX`."""
        now = asyncio.get_running_loop().time
        while True:
            while self._queue:
                message, size = self._take()
                self.traffic.writing_since = now()
                await self._write(message)
                self.traffic.written(size)
                if not self._ending:
                    await asyncio.sleep(self._pause_s)
            if self._ending:
                return
            self._filled.clear()
            await self._filled.wait()

    def _take(self) -> tuple[bytes, int]:
        header = self._header().SerializeToString()
        message = [as_field(HEADER_FIELD, header)]
        size = 0
        while self._queue and size < MESSAGE_BYTES_MAX:
            ids, body = self._queue.popleft()
            size += len(ids) + len(body)
            message.append(as_field(NEWS_FIELD, ids + body))
        # Subtracted before the write: memory may hold one message more than the bound.
        self._bytes -= size
        if self._bytes <= self._bytes_max // 2:
            self._room.set()
        return b"".join(message), size

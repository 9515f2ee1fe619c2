"""One pipeline stream: reads requests, and writes replies in the order in which they complete.

This is the hot path: no request may cost a task, a timer or an extra turn of the event loop here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import grpc

from raftkv.errors import ShuttingDown
from raftkv.rpc.v1 import api_pb2
from raftkv.server.admission import ClientShare
from raftkv.server.authorization import Requester
from raftkv.server.failures import abort
from raftkv.server.traffic import CallTraffic

# Unread replies of one client; above this bound its next requests are not read.
OUTGOING_BYTES_MAX = 8 << 20
# Results of commands in flight are queued above the bound as well. A client with this many unread
# bytes loses its stream; its session repeats the requests without a reply.
OUTGOING_BYTES_CUT = 4 * OUTGOING_BYTES_MAX


Returned = TypeVar("Returned")


class PipelineStream:
    """One client's stream; `handle` is called with each message."""

    def __init__(
        self,
        name: str,
        context: grpc.aio.ServicerContext[bytes, bytes],
        requester: Requester,
        share: ClientShare,
        handle: Callable[[PipelineStream, bytes], Awaitable[None] | None],
        traffic: CallTraffic,
    ) -> None:
        self.name = name
        self.requester = requester
        self.share = share
        self._context = context
        self._handle = handle
        self._in_flight = 0
        self._outgoing: deque[bytes] = deque()
        self._traffic = traffic
        self._reply_queued = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._read_turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending = False
        self._closed = False

    # ---- for the service -------------------------------------------------------

    def begin(self) -> None:
        """A request was admitted; `reply` must be called for it."""
        self._in_flight += 1

    def reply(self, reply: api_pb2.PipelineReply) -> None:
        """Send the reply to a request that `begin` counted."""
        self._in_flight -= 1
        self.send(reply)

    def send(self, reply: api_pb2.PipelineReply) -> None:
        """Queue a reply; it is dropped if the stream is closed."""
        if self._closed:
            return
        message = reply.SerializeToString()
        self._outgoing.append(message)
        traffic = self._traffic
        traffic.add(len(message))
        if traffic.bytes > OUTGOING_BYTES_MAX or not traffic.room_in_all:
            self._room.clear()
            if traffic.bytes > OUTGOING_BYTES_CUT:
                self._cut()
        self._reply_queued.set()

    def _cut(self) -> None:
        self._closed = True
        self._outgoing.clear()
        self._traffic.cut()

    @property
    def has_room(self) -> bool:
        """Whether the client's unread replies are within their bound."""
        return self._room.is_set()

    def read_in_turn(
        self, read: Callable[[], Coroutine[Any, Any, api_pb2.ReadResults]]
    ) -> asyncio.Task[api_pb2.ReadResults]:
        """Run a read that takes several turns of the event loop, after this client's earlier ones.

        Reads run one at a time, and only while there is room: a client that requests much and
        reads nothing fills one reply, not the node's memory. Cancelled when the stream closes.
        """
        return self.spawn(self._in_turn(read))

    def spawn(self, work: Coroutine[Any, Any, Returned]) -> asyncio.Task[Returned]:
        """Run the work in a task, which is cancelled when the stream closes."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _in_turn(
        self, read: Callable[[], Coroutine[Any, Any, api_pb2.ReadResults]]
    ) -> api_pb2.ReadResults:
        async with self._read_turn:
            await self._room.wait()
            return await read()

    # ---- run and end -----------------------------------------------------------

    def end(self) -> None:
        """Reply to the requests in flight, then close the stream."""
        self._ending = True
        self._reply_queued.set()

    async def run(self) -> None:
        """Serve until the client ends its requests or disconnects, or `end` is called."""
        loop = asyncio.get_running_loop()
        reading = loop.create_task(self._read_requests())
        writing = loop.create_task(self._write_replies())
        try:
            await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                # Also after an error: gRPC accepts no status while a reply is being written.
                self.end()
                await writing
                reading.result()
            else:
                writing.result()
                await abort(self._context, ShuttingDown("this node is stopping; ask another one"))
        finally:
            self._closed = True
            self._outgoing.clear()
            for task in (reading, writing, *self._tasks):
                task.cancel()
            await asyncio.gather(reading, writing, *self._tasks, return_exceptions=True)

    async def _read_requests(self) -> None:
        read, handle, connection = self._context.read, self._handle, self._traffic.connection
        while True:
            message = await read()
            if not isinstance(message, bytes):  # the end of the client's requests
                return
            connection.received += len(message)
            more = handle(self, message)
            if more is not None:
                await more
            if not self._room.is_set():
                await self._room.wait()

    async def _write_replies(self) -> None:
        write, outgoing, traffic = self._context.write, self._outgoing, self._traffic
        now = asyncio.get_running_loop().time
        while True:
            while outgoing:
                message = outgoing.popleft()
                traffic.writing_since = now()
                await write(message)
                traffic.written(len(message))
                # A stream without unread replies continues, even if others exceed the total bound.
                if traffic.bytes <= OUTGOING_BYTES_MAX and (traffic.room_in_all or not outgoing):
                    self._room.set()
            if self._ending and not self._in_flight:
                return
            self._reply_queued.clear()
            await self._reply_queued.wait()

"""A client's end of an HTTP/2 connection that sends any frame in any state."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from hpack import Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WRITE_S_MAX = 3.0
READ_BYTES = 1 << 16
HEADER_BYTES = 9
WINDOW_BYTES = 65_535
FRAME_BYTES = 16_384
ACK = frozenset({"ACK"})

Headers = Iterable[tuple[str, str]]


def frame_bytes(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of any kind, whether there is one like it or not."""
    return (
        struct.pack(">I", len(payload))[1:]
        + bytes((kind, flags))
        + (struct.pack(">I", stream) + payload)
    )


def headers_of(path: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    """As gRPC wants them for a call."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "fuzz"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *more,
    ]


def grpc_message(data: bytes, said_bytes: int | None = None) -> bytes:
    """Framed as gRPC frames a message, with its length in front."""
    return struct.pack(">BI", 0, len(data) if said_bytes is None else said_bytes) + data


class Connection:
    """Sends any frames. Received frames are dropped, except for those that need a reply."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._encoder = Encoder()
        self._next_stream = 1
        self._initial_window = WINDOW_BYTES
        self._windows: defaultdict[int, int] = defaultdict(int)  # granted or used since the start
        self._granted = asyncio.Event()

    @property
    def over(self) -> bool:
        return self._writer.transport.is_closing()

    def new_stream(self) -> int:
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        return stream

    async def send(self, data: bytes | Frame) -> None:
        """Raises `OSError` or `TimeoutError` if the other end takes no more."""
        self._writer.write(data if isinstance(data, bytes) else data.serialize())
        async with asyncio.timeout(WRITE_S_MAX):
            await self._writer.drain()
        if self.over:
            raise ConnectionResetError

    def open(self, headers: Headers, *, end: bool = False, whole: bool = True) -> HeadersFrame:
        """The frame that opens the next stream; unless `whole`, others continue it."""
        flags = [name for name, set_ in (("END_STREAM", end), ("END_HEADERS", whole)) if set_]
        return HeadersFrame(self.new_stream(), self._encoder.encode(list(headers)), flags=flags)

    async def call(self, path: str, message: bytes, *, end: bool = True) -> int:
        """Open a stream for a call of this method with one message; its number."""
        opening = self.open(headers_of(path))
        sent = DataFrame(opening.stream_id, message, flags=["END_STREAM"] if end else [])
        await self.send(opening.serialize() + sent.serialize())
        return int(opening.stream_id)

    async def fill(self, stream: int, count: int) -> None:
        """Send so many bytes of data on the stream, as fast as the server's windows allow.

        Raises `TimeoutError` if it allows nothing for a while.
        """
        while count > 0:
            of_stream = self._initial_window + self._windows[stream]
            room = min(of_stream, WINDOW_BYTES + self._windows[0], FRAME_BYTES, count)
            if room <= 0:
                self._granted.clear()
                async with asyncio.timeout(WRITE_S_MAX):
                    await self._granted.wait()
                continue
            await self.send(DataFrame(stream, bytes(room)))
            count -= room
            for window in (0, stream):
                self._windows[window] -= room

    def reset(self) -> None:
        """Have the kernel send RST in place of an orderly end."""
        with contextlib.suppress(OSError):
            endpoint = self._writer.get_extra_info("socket")
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def answer(self, reader: asyncio.StreamReader) -> None:
        """Read until the other end closes, and answer what has to be answered to stay connected."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            while True:
                header = await reader.readexactly(HEADER_BYTES)
                size, kind, flags = int.from_bytes(header[:3]), header[3], header[4]
                stream = int.from_bytes(header[5:])
                payload = await reader.readexactly(size)
                if kind == PingFrame.type and not flags:
                    await self.send(PingFrame(0, payload, flags=ACK))
                elif kind == SettingsFrame.type and not flags:
                    for name, value in struct.iter_unpack(">HI", payload):
                        if name == SettingsFrame.INITIAL_WINDOW_SIZE:
                            self._initial_window = value
                    await self.send(SettingsFrame(0, flags=ACK))
                elif kind == WindowUpdateFrame.type:
                    self._windows[stream] += int.from_bytes(payload)
                self._granted.set()


@asynccontextmanager
async def raw(address: str) -> AsyncIterator[Connection]:
    """A connection on which nothing was said yet, and from which nothing is read."""
    host, port = address.rsplit(":", 1)
    _, writer = await asyncio.open_connection(host, int(port), limit=READ_BYTES)
    try:
        yield Connection(writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def connected(
    address: str, *, settings: dict[int, int] | None = None, deaf: bool = False
) -> AsyncIterator[Connection]:
    """One that speaks HTTP/2, and, unless it is `deaf`, reads what comes."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port), limit=READ_BYTES)
    connection = Connection(writer)
    listener = asyncio.ensure_future(asyncio.sleep(0) if deaf else connection.answer(reader))
    try:
        await connection.send(PREFACE + SettingsFrame(0, settings or {}).serialize())
        yield connection
    finally:
        listener.cancel()
        writer.transport.abort()

"""A raw HTTP/2 client, which may send partial messages and read nothing."""

from __future__ import annotations

import asyncio
import struct
from types import TracebackType

PATIENCE_S = 20.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW = 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    size = struct.pack(">I", len(payload))[1:]
    return size + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def message(body: bytes, size: int | None = None) -> bytes:
    """A gRPC message with `size` as its length, by default the real one."""
    return b"\0" + struct.pack(">I", len(body) if size is None else size) + body


class RawClient:
    """One connection. With `window` 0 the server may send no message on any stream."""

    def __init__(self, port: int, window: int = 65_535) -> None:
        self._port = port
        self._window = window
        self._stream = -1
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> RawClient:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        settings = struct.pack(">HI", INITIAL_WINDOW, self._window)
        self._writer.write(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(SETTINGS, ACK, 0))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._writer.close()

    async def call(self, path: str, data: bytes, *, end: bool = True) -> None:
        """Begin a call with these bytes, the last ones if `end`."""
        self._stream += 2
        names = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "x",
            "te": "trailers",
            "content-type": "application/grpc",
        }
        block = b"".join(b"\0" + _text(name) + _text(value) for name, value in names.items())
        self._writer.write(frame(HEADERS, END_HEADERS, self._stream, block))
        for start in range(0, len(data), 16_384):
            self._writer.write(frame(DATA, 0, self._stream, data[start : start + 16_384]))
        if end:
            self._writer.write(frame(DATA, END_STREAM, self._stream))
        await self._writer.drain()

    async def until_cut(self) -> None:
        """Wait until the server closes the connection."""
        async with asyncio.timeout(PATIENCE_S):
            while await self._reader.read(1 << 16):
                pass


def _text(text: str) -> bytes:
    assert len(text) < 127
    return bytes([len(text)]) + text.encode()

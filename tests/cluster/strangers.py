"""Callers without a credential, who hold and open connections: `python -m tests.cluster.strangers`.

The arguments are addresses. `ready` is printed once all idle connections were opened; it ends when
it is killed. It is a process of its own, so that its work does not delay the clients that a test
measures.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
import struct
import sys
from collections.abc import Awaitable, Callable

from hpack import Encoder
from hyperframe.frame import HeadersFrame, RstStreamFrame, SettingsFrame

from tests.fuzz.connections import PREFACE, headers_of

IDLE_CONNECTIONS = 500
"""Of each address."""

REOPEN_S = 1.0
HALF_OPEN_CONNECTIONS = 50
ATTEMPTS_PER_S = 25
"""Of each kind, at each address."""

RESETS_AT_ONCE = 40
HTTP1 = b"GET / HTTP/1.1\r\nHost: stranger\r\n\r\n"
LINGER_NOT = struct.pack("ii", 1, 0)

Attempt = Callable[[str, int], Awaitable[None]]


def trusting_all() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def client_hello() -> bytes:
    """The first message of a TLS handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    handshake = trusting_all().wrap_bio(incoming, outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        handshake.do_handshake()
    return outgoing.read()


async def hold(host: str, port: int, first: bytes, opened: Callable[[], None]) -> None:
    """Keep a connection open that has sent `first` and no more; open it again when it is closed."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(first)
            opened()
            with contextlib.suppress(OSError):
                while await reader.read(1 << 16):
                    pass
            writer.transport.abort()
        opened()
        await asyncio.sleep(REOPEN_S)


async def repeat(host: str, port: int, attempt: Attempt) -> None:
    while True:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(2):
                await attempt(host, port)
        await asyncio.sleep(1 / ATTEMPTS_PER_S)


async def send(host: str, port: int, data: bytes) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(data)
        await reader.read(1 << 16)
    finally:
        writer.transport.abort()


async def garbage(host: str, port: int) -> None:
    await send(host, port, os.urandom(1024))


async def garbage_in_tls_record(host: str, port: int) -> None:
    await send(host, port, b"\x16\x03\x01\x03\xfd" + os.urandom(1024))


async def http1(host: str, port: int) -> None:
    await send(host, port, HTTP1)


async def reset(host: str, port: int) -> None:
    """Close a connection by RST as soon as it is open."""
    _, writer = await asyncio.open_connection(host, port)
    endpoint = writer.get_extra_info("socket")
    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
    writer.transport.abort()


async def reset_calls(host: str, port: int) -> None:
    """Within TLS: begin many calls, and reset each at once."""
    reader, writer = await asyncio.open_connection(host, port, ssl=trusting_all())
    try:
        encoder = Encoder()
        frames = [PREFACE, SettingsFrame(0).serialize()]
        for stream in range(1, 2 * RESETS_AT_ONCE, 2):
            block = encoder.encode(headers_of("/raftkv.rpc.v1.KV/Range"))
            frames.append(HeadersFrame(stream, block, flags=["END_HEADERS"]).serialize())
            frames.append(RstStreamFrame(stream, error_code=8).serialize())
        writer.write(b"".join(frames))
        await reader.read(1 << 16)
    finally:
        writer.transport.abort()


async def main(addresses: list[str]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    waiting = set(range(len(addresses) * IDLE_CONNECTIONS))
    ready = asyncio.Event()

    def opened(index: int) -> None:
        waiting.discard(index)
        if not waiting:
            ready.set()

    async with asyncio.TaskGroup() as group:
        for place, address in enumerate(addresses):
            host, _, text = address.rpartition(":")
            port = int(text)
            for number in range(IDLE_CONNECTIONS):
                index = place * IDLE_CONNECTIONS + number
                group.create_task(hold(host, port, b"", lambda index=index: opened(index)))
            for _ in range(HALF_OPEN_CONNECTIONS):
                group.create_task(hold(host, port, client_hello(), lambda: None))
            for attempt in (garbage, garbage_in_tls_record, http1, reset, reset_calls):
                group.create_task(repeat(host, port, attempt))
        await ready.wait()
        print("ready", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))

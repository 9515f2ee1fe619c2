"""A TCP proxy in front of one port of a node, which lets through what the network's rules allow.

Needs no root. The node that connected to a peer port is read from the kernel: the process that
owns the other end of the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from jepsen_lite.db.network import Pair, ProxyNetwork

CHUNK_BYTES = 1 << 16
CHUNKS_UNDER_WAY_MAX = 64
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def owner_of(local_port: int, pids: Mapping[str, int]) -> str:
    """The node (of name -> pid) that has a TCP socket on `local_port`; "" if none has."""
    inodes: set[str] = set()
    for table in ("tcp", "tcp6"):  # gRPC reaches 127.0.0.1 through IPv6 sockets
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            columns = line.split()
            if int(columns[1].rsplit(":", 1)[1], 16) == local_port and columns[9] != "0":
                inodes.add(f"socket:[{columns[9]}]")
    for name, pid in pids.items():
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{descriptor}") in inodes:
                        return name
    return ""


class Proxy:
    """Listens on `port` for node `to` and hands on to `target`.

    `dialler` says whose connection it is, by its port. `both_ways`: a connection carries only its
    dialler's messages, and what flows back is acknowledgements, so a cut from dialler to listener
    silences it in both directions and a cut the other way not at all. That is how raftkv's peers
    talk, one stream per direction. Without it, bytes are judged by the way they go.
    """

    def __init__(
        self,
        to: str,
        port: int,
        target: tuple[str, int],
        network: ProxyNetwork,
        dialler: Callable[[int], str],
        *,
        both_ways: bool,
    ) -> None:
        self._to = to
        self._port = port
        self._target = target
        self._network = network
        self._dialler = dialler
        self._both_ways = both_ways
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # either end went away, or the proxy is being stopped
        finally:
            self._serving.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender = self._dialler(writer.get_extra_info("peername")[1])
        if not sender:
            return
        there = (sender, self._to)
        back = there if self._both_ways else (self._to, sender)
        await self._network.passes(there)
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        connection = _Connection(writer, far_writer)
        self._network.opened(connection, there)
        pumps = [
            asyncio.create_task(_pump(reader, far_writer, self._network, there)),
            asyncio.create_task(_pump(far_reader, writer, self._network, back)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._network.closed(connection)
            far_writer.close()


class _Connection:
    """Both sockets of a proxied connection."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._ends = (near, far)

    def reset(self) -> None:
        """Both sides see a reset, not an end."""
        for end in self._ends:
            end.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE
            )
            end.transport.abort()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, network: ProxyNetwork, pair: Pair
) -> None:
    """Carry bytes one way until one end closes; slowness delays them and keeps their order."""
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_UNDER_WAY_MAX)

    async def read() -> None:
        while data := await reader.read(CHUNK_BYTES):
            await under_way.put((loop.time() + network.delay_s(pair), data))
        await under_way.put((loop.time(), b""))

    reading = asyncio.create_task(read())
    try:
        while True:
            due, data = await under_way.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            await network.passes(pair)
            if not data:
                return
            writer.write(data)
            await writer.drain()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

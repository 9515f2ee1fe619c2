"""A TCP proxy in front of each node's peer port that can cut single directions of the network.

Which node calls is read from the kernel: the process that owns the socket's other end.
Needs no root. A cut connection stays open and silent, as in a real partition.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path


def owner_of(local_port: int, pids: dict[int, int]) -> int | None:
    """The node (of node -> pid) that has a TCP socket on `local_port`."""
    inode = None
    for table in ("tcp", "tcp6"):  # gRPC reaches 127.0.0.1 through IPv6 sockets
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            columns = line.split()
            if int(columns[1].rsplit(":", 1)[1], 16) == local_port and columns[9] != "0":
                inode = columns[9]
    for node, pid in pids.items():
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{descriptor}") == f"socket:[{inode}]":
                        return node
    return None


class Network:
    """Who can't reach whom, as pairs (from, to)."""

    def __init__(self) -> None:
        self._cut: set[tuple[int, int]] = set()
        self._changed = asyncio.Event()

    def cut(self, sender: int, recipient: int) -> None:
        self._cut.add((sender, recipient))

    def isolate(self, node: int, others: set[int]) -> None:
        for other in others - {node}:
            self.cut(node, other)
            self.cut(other, node)

    def heal(self) -> None:
        self._cut.clear()
        self._changed.set()
        self._changed = asyncio.Event()

    async def passes(self, sender: int, recipient: int) -> None:
        """Return when bytes may go from `sender` to `recipient`."""
        while (sender, recipient) in self._cut:
            await self._changed.wait()


class PeerProxy:
    """Listens where node `to` is said to listen, and hands on to where it really does."""

    def __init__(
        self, to: int, port: int, target_port: int, network: Network, pids: Callable[[], dict]
    ) -> None:
        self._to = to
        self._port = port
        self._target_port = target_port
        self._network = network
        self._pids = pids
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller_port = writer.get_extra_info("peername")[1]
        sender = owner_of(caller_port, self._pids())
        if sender is None:  # it has gone away already
            return
        await self._network.passes(sender, self._to)
        out_reader, out_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        try:
            # Acknowledgements of gRPC flow back on the same connection: a cut of one direction
            # silences the stream of that direction both ways, as a lost route does.
            pumps = [
                asyncio.create_task(self._pump(reader, out_writer, sender)),
                asyncio.create_task(self._pump(out_reader, writer, sender)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            out_writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sender: int
    ) -> None:
        while data := await reader.read(65536):
            await self._network.passes(sender, self._to)
            writer.write(data)
            await writer.drain()

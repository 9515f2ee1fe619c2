"""The receiver of a snapshot: turns a stream of chunks into a directory that the node installs."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeAlias, TypeVar

import google_crc32c
from google.protobuf.message import DecodeError

from raftkv.errors import (
    DamagedData,
    DiskFull,
    InvalidRequest,
    Overloaded,
    StorageError,
    Unavailable,
)
from raftkv.peer.codec import read_install_snapshot
from raftkv.peer.handshake import PeerIdentity
from raftkv.peer.ports import PeerHandler
from raftkv.raft.messages import InstallSnapshot
from raftkv.rpc.v1 import peer_pb2

P = ParamSpec("P")
T = TypeVar("T")
Read: TypeAlias = Callable[[], Awaitable[object]]


class SnapshotReceiver:
    """Receives one snapshot at a time; the executor `disk` writes the files."""

    def __init__(
        self, identity: PeerIdentity, handler: PeerHandler, disk: Executor, stall_timeout_s: float
    ) -> None:
        self._identity = identity
        self._handler = handler
        self._disk = disk
        self._stall_timeout_s = stall_timeout_s
        self._busy = False
        self._installing: asyncio.Task[None] | None = None

    async def receive(
        self,
        sender: int,
        opening: peer_pb2.SnapshotChunk,
        read: Read,
        accept: Callable[[], Awaitable[object]],
    ) -> int:
        """Receive the chunks, then have the node install the snapshot; returns the bytes received.

        Calls `accept` once the node wants the snapshot: the sender waits for that. Raises the
        `RaftkvError` that says why the snapshot was not installed.
        """
        if self._busy:
            raise Overloaded("another snapshot is being received", retry_after_s=1.0)
        self._busy = True
        files: SnapshotFiles | None = None
        try:
            message = read_install_snapshot(
                opening.snapshot, sender, self._identity.node_id, opening.term
            )
            root = self._handler.begin_snapshot(message)
            files = SnapshotFiles(root, opening.total_bytes)
            await accept()
            while not (chunk := await self.next_chunk(read)).last:
                await self._on_disk(files.add, chunk)
            await self._on_disk(files.finish)
        except BaseException:
            await self._abandon(files)
            raise
        await self._install(message, root)
        return files.bytes_received

    async def next_chunk(self, read: Read) -> peer_pb2.SnapshotChunk:
        """The next chunk from `read`, not yet checked. Raises `Unavailable` if none arrives."""
        try:
            async with asyncio.timeout(self._stall_timeout_s):
                data = await read()
        except TimeoutError:
            raise Unavailable(f"no snapshot data for {self._stall_timeout_s:g} s") from None
        return parse_chunk(data)

    async def _on_disk(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._disk, lambda: work(*args, **kwargs))
        except OSError as error:
            failure = DiskFull if error.errno == errno.ENOSPC else StorageError
            raise failure(f"the snapshot can't be written: {error}") from error

    async def _abandon(self, files: SnapshotFiles | None) -> None:
        # A cancelled write still runs on its thread. The next snapshot clears the directory, so it
        # must not begin before that write has ended.
        if files is None:
            self._busy = False
            return
        closed = asyncio.get_running_loop().run_in_executor(self._disk, files.close)
        closed.add_done_callback(self._ready_again)
        await asyncio.wait([closed])

    async def _install(self, message: InstallSnapshot, root: Path) -> None:
        # Shielded: if the sender disconnects now, the call is cancelled, but an installation
        # that stops half-way would leave the node without a state.
        installing = asyncio.ensure_future(self._handler.finish_snapshot(message, root))
        self._installing = installing
        installing.add_done_callback(self._ready_again)
        await asyncio.shield(installing)

    def _ready_again(self, _: asyncio.Future[None]) -> None:
        self._busy = False
        self._installing = None


def parse_chunk(data: object) -> peer_pb2.SnapshotChunk:
    """Parse a chunk. Raises the `RaftkvError` that says why `data` is none."""
    if not isinstance(data, bytes):
        raise Unavailable("the stream ended before the snapshot did")
    try:
        return peer_pb2.SnapshotChunk.FromString(data)
    except DecodeError as error:
        raise InvalidRequest(f"not a SnapshotChunk: {error}") from error


class SnapshotFiles:
    """Writes the chunks of one snapshot below `root`, an empty directory."""

    def __init__(self, root: Path, total_bytes: int) -> None:
        self._root = root
        self._total_bytes = total_bytes
        self._name = ""
        self._file: BinaryIO | None = None
        self._offset = 0
        self._directories = {root}
        self.bytes_received = 0

    def add(self, chunk: peer_pb2.SnapshotChunk) -> None:
        """Write one chunk of data. Chunks of a file come in order and without gaps.

        Raises `DamagedData` if the checksum does not fit, `InvalidRequest` if the chunk can't be
        the next of a well-behaved sender, `OSError` if the disk fails.
        """
        if google_crc32c.value(chunk.data) != chunk.crc32c:
            raise DamagedData(
                f"the checksum of {chunk.file!r} at offset {chunk.offset} does not fit its data"
            )
        if self.bytes_received + len(chunk.data) > self._total_bytes:
            raise InvalidRequest(f"more data than the {self._total_bytes} bytes announced")
        if self._file is None or chunk.file != self._name:
            self._finish_file()
            self._file = self._create(chunk.file)
            self._name, self._offset = chunk.file, 0
        if chunk.offset != self._offset:
            raise InvalidRequest(
                f"{chunk.file!r} goes on at offset {self._offset}, not {chunk.offset}"
            )
        self._file.write(chunk.data)
        self._offset += len(chunk.data)
        self.bytes_received += len(chunk.data)

    def finish(self) -> None:
        """Fsync files and directories. Raises `InvalidRequest` if data is missing."""
        if self.bytes_received != self._total_bytes:
            raise InvalidRequest(
                f"the snapshot ended after {self.bytes_received} of {self._total_bytes} bytes"
            )
        self._finish_file()
        for directory in self._directories:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def close(self) -> None:
        """Close the open file, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _finish_file(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self.close()

    def _create(self, name: str) -> BinaryIO:
        path = self._root
        parts = name.split("/")
        for part in parts:
            if part in ("", ".", "..") or "\\" in part or "\0" in part:
                raise InvalidRequest(f"{name!r} is not the name of a file inside a snapshot")
            path = path / part
        for directory in reversed(path.relative_to(self._root).parents[:-1]):
            (self._root / directory).mkdir(exist_ok=True)
            self._directories.add(self._root / directory)
        try:
            return path.open("xb")
        except FileExistsError:
            raise InvalidRequest(f"{name!r} was sent twice") from None

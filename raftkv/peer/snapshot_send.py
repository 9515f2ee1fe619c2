"""The sender of a snapshot: streams a checkpoint's files as checksummed chunks to a peer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import grpc

from raftkv.errors import StorageError, Unavailable
from raftkv.peer.codec import fill_install_snapshot
from raftkv.peer.connection import connect_to
from raftkv.peer.handshake import (
    HELLO_KEY,
    SEND_SNAPSHOT,
    Credentials,
    HandshakeFailed,
    encode_hello,
    ending_of,
    is_admitted,
    prove,
)
from raftkv.raft.messages import InstallSnapshot
from raftkv.rpc.v1 import peer_pb2

CHUNK_BYTES_MAX = 512 << 10
STALL_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A file of the checkpoint: its name relative to the checkpoint, with `/`, and its size."""

    name: str
    size_bytes: int


def list_files(root: Path) -> list[SnapshotFile]:
    """The regular files below `root`, in the order of their names."""
    files = [
        SnapshotFile(path.relative_to(root).as_posix(), path.stat().st_size)
        for path in root.rglob("*")
        if path.is_file()
    ]
    return sorted(files, key=lambda file: file.name)


def encode_chunks(root: Path, message: InstallSnapshot, proof: bytes = b"") -> Iterator[bytes]:
    """The SnapshotChunks, in order: the announcement with the proof, the files' data, the end.

    Reads the disk as it goes. Raises `StorageError` if a file can't be read or changes its size.
    """
    try:
        files = list_files(root)
        if not files:
            raise StorageError(f"the snapshot in {root} has no files")
        total_bytes = sum(file.size_bytes for file in files)
        opening = peer_pb2.SnapshotChunk(term=message.term, total_bytes=total_bytes, proof=proof)
        fill_install_snapshot(message, opening.snapshot)
        yield opening.SerializeToString()
        for file in files:
            yield from _encode_file(root, file)
        yield peer_pb2.SnapshotChunk(last=True, total_bytes=total_bytes).SerializeToString()
    except OSError as error:
        raise StorageError(f"the snapshot in {root} can't be read: {error}") from error


def _encode_file(root: Path, file: SnapshotFile) -> Iterator[bytes]:
    offset = 0
    with (root / file.name).open("rb", buffering=0) as source:
        # At least one chunk, because an empty file must arrive too.
        while True:
            data = source.read(CHUNK_BYTES_MAX)
            chunk = peer_pb2.SnapshotChunk(
                file=file.name, offset=offset, data=data, crc32c=google_crc32c.value(data)
            )
            yield chunk.SerializeToString()
            offset += len(data)
            if offset >= file.size_bytes or not data:
                break
    if offset != file.size_bytes:
        raise StorageError(
            f"{file.name} of the snapshot in {root} has {offset} bytes, not {file.size_bytes}"
        )


class SnapshotSender:
    """Streams snapshots to peers; the executor `disk` reads the files."""

    def __init__(self, disk: Executor, stall_timeout_s: float) -> None:
        self._disk = disk
        self._stall_timeout_s = stall_timeout_s

    async def send(
        self,
        credentials: Credentials,
        last_log_index: int,
        to: int,
        address: str,
        message: InstallSnapshot,
        root: Path,
    ) -> None:
        """Send the files below `root` to node `to`; errors as `PeerLinks.send_snapshot`."""
        # A connection of its own: heartbeats must not wait behind a snapshot in a socket buffer.
        connection = await connect_to(to, address, credentials)
        channel, credentials = connection.channel, connection.credentials
        try:
            start = channel.stream_stream(SEND_SNAPSHOT, None, None)
            hello = encode_hello(credentials.identity, to, last_log_index)
            call = start(None, metadata=((HELLO_KEY, hello),))
            try:
                async with asyncio.timeout(self._stall_timeout_s):
                    proof = await prove(call.read, hello, to, credentials)
                await self._stream(call, encode_chunks(root, message, proof))
            except HandshakeFailed as error:
                raise Unavailable(str(error), peer_reason=error.refused.reason) from None
            except TimeoutError:
                raise Unavailable(
                    f"node {to} took no snapshot data for {self._stall_timeout_s:g} s"
                ) from None
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                ending = await ending_of(call, hello, credentials.secret)
                raise Unavailable(
                    f"node {to} did not take the snapshot: {ending.details}",
                    code=ending.code,
                    peer_reason=ending.reason,
                ) from None
        finally:
            await channel.close(None)

    async def _stream(
        self, call: grpc.aio.StreamStreamCall[bytes, bytes], chunks: Iterator[bytes]
    ) -> None:
        await self._write_next(call, chunks)
        # Wait for admission before sending data: an unwanted snapshot is not sent, and a refusal
        # during a write would arrive without its reason.
        if not is_admitted(await self._read(call)):
            raise asyncio.InvalidStateError
        while await self._write_next(call, chunks):
            pass
        await call.done_writing()
        if not isinstance(await self._read(call), bytes):  # how much it has received
            raise asyncio.InvalidStateError

    async def _read(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> object:
        async with asyncio.timeout(self._stall_timeout_s):
            return await call.read()

    async def _write_next(
        self, call: grpc.aio.StreamStreamCall[bytes, bytes], chunks: Iterator[bytes]
    ) -> bool:
        chunk = await asyncio.get_running_loop().run_in_executor(self._disk, next, chunks, b"")
        if chunk:
            # Returns once the chunk is within the peer's flow-control window.
            async with asyncio.timeout(self._stall_timeout_s):
                await call.write(chunk)
        return bool(chunk)

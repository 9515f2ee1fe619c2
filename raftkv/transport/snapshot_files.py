"""Receiving a snapshot: chunks become files, and nothing that is not exactly what was sent.

All of it waits for the disk, so it runs on a disk thread; it knows nothing of the network.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from raftkv.errors import DamagedData, InvalidRequest
from raftkv.rpc import peer_pb2


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
        """Make all of it survive a power cut. Raises `InvalidRequest` if data is missing."""
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
        """Let go of the open file, whatever state it is in."""
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

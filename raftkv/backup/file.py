"""The file of a backup.

    magic number (8) | format (2) | encrypted (1) | size of the header (4) | header
    | digest of all before (32) | frames

    frame    size, with its highest bit set in the last frame (4) | sealed bytes

Numbers are big-endian. The header is a `BackupFileHeader`, and never encrypted. Each frame but the
last holds a `BackupRows`, compressed with zstandard; the last one holds the `BackupEnd`. Nothing
follows it.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import zstandard
from google.protobuf.message import DecodeError

from raftkv.backup.seals import BrokenSeal, Checksums, Encryption, Seal
from raftkv.errors import ConfigurationError, DamagedBackup, InvalidRequest, StorageError
from raftkv.files import sync_file, translated
from raftkv.kv.store import Family
from raftkv.rpc.v1 import api_pb2

MAGIC: Final = b"raftkvBK"
FORMAT: Final = 1

FRAME_BYTES_MAX: Final = 64 << 20
"""A sealed frame; a row, which is at most some megabytes, is never divided."""

HEADER_BYTES_MAX: Final = 64 << 10

ROWS_BYTES_MAX: Final = 256 << 20
"""The rows of a frame after decompression."""

_FIXED = struct.Struct(">8sH?I")
_SIZE = struct.Struct(">I")
_LAST = 1 << 31
_DIGEST_BYTES = 32

BackupRow = tuple[Family, bytes, bytes]
"""Family, key and value."""


class BackupWriter:
    """Writes a backup beside its final place, where `finish` puts it. `close` it in any case.

    Without `finish` nothing is left. `key` None: not encrypted. Raises `ConfigurationError` if the
    file exists and `replace` is false.
    """

    def __init__(
        self,
        path: Path,
        header: api_pb2.BackupFileHeader,
        key: bytes | None,
        *,
        replace: bool = False,
    ) -> None:
        if path.exists() and not replace:
            raise ConfigurationError(
                f"{path} exists and is left as it is. Fix: name another file, or give --force."
            )
        self.bytes = 0
        """Written so far."""

        self._path = path
        self._replace = replace
        self._unfinished = path.with_name(path.name + ".unfinished")
        self._number = 0
        self._digest = hashlib.sha256()
        self._rows_bytes = 0
        encoded = header.SerializeToString()
        start = _FIXED.pack(MAGIC, FORMAT, key is not None, len(encoded)) + encoded
        digest = hashlib.sha256(start).digest()
        self._seal = _seal(key, digest)
        with translated("writing the backup", self._unfinished):
            self._unfinished.unlink(missing_ok=True)
            descriptor = os.open(self._unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._file = os.fdopen(descriptor, "wb")
            self._write(start + digest)

    def rows(self, compressed: bytes) -> None:
        """Append compressed rows. Raises `StorageError`."""
        self._digest.update(compressed)
        self._rows_bytes += len(compressed)
        self._frame(compressed, last=False)

    def finish(self, end: api_pb2.BackupEnd) -> None:
        """Append the end and put the file in its place, durably.

        Raises `DamagedBackup` if the end names other rows than those that were appended.
        """
        if (end.rows_bytes, end.rows_sha256) != (self._rows_bytes, self._digest.digest()):
            raise DamagedBackup(
                f"the rows that arrived are not those that the node sent ({self._rows_bytes} bytes"
                f" of {end.rows_bytes}); nothing was saved, save it again",
                path=self._path,
            )
        self._frame(end.SerializeToString(), last=True)
        with translated("writing the backup", self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if self._replace:
                self._unfinished.replace(self._path)
            else:
                self._link()
            sync_file(self._path.absolute().parent)

    def _link(self) -> None:
        """Give the file its name, unless another file has got it meanwhile."""
        try:
            os.link(self._unfinished, self._path)
        except FileExistsError:
            raise ConfigurationError(
                f"{self._path} was made meanwhile, and is left as it is. Fix: name another file."
            ) from None
        self._unfinished.unlink()

    def close(self) -> None:
        """Remove what is not finished."""
        self._file.close()
        self._unfinished.unlink(missing_ok=True)

    def _frame(self, frame: bytes, *, last: bool) -> None:
        sealed = self._seal.close(self._number, last, frame)
        self._number += 1
        with translated("writing the backup", self._path):
            self._write(_SIZE.pack(len(sealed) | (_LAST if last else 0)) + sealed)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.bytes += len(data)


class BackupReader:
    """Reads a backup: a context manager. The header is read and checked when it is made.

    Raises `DamagedBackup` for a file that is not a whole backup, `ConfigurationError` for a file
    that can't be read, and `StorageError`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise ConfigurationError(
                f"{path} can't be read: {error.strerror}. Fix: name the file of a backup."
            ) from error
        try:
            self.size_bytes = path.stat().st_size
            self.format, self.encrypted, self.header, self._digest = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def rows(self, key: bytes | None) -> Iterator[BackupRow]:
        """All rows. Call it once. After the last row the whole file has been checked.

        Raises `DamagedBackup`, and `ConfigurationError` if there must be a key, or no key.
        """
        if self.encrypted and key is None:
            raise ConfigurationError(
                f"{self.path} is encrypted. Fix: give --key-file with the key it was saved with."
            )
        if key is not None and not self.encrypted:
            # Who relies on the key relies on it to show a forgery.
            raise ConfigurationError(
                f"{self.path} is not encrypted. Fix: leave out --key-file, if you trust the file."
            )
        seal, digest, count, number = _seal(key, self._digest), hashlib.sha256(), 0, 0
        total_bytes = 0
        unpack = zstandard.ZstdDecompressor()
        while True:
            frame, last = self._read_frame(seal, number)
            if last:
                break
            digest.update(frame)
            total_bytes += len(frame)
            number += 1
            for row in self._rows_of(unpack, frame, number):
                count += 1
                yield row
        try:
            end = api_pb2.BackupEnd.FromString(frame)
        except DecodeError:
            raise self._damaged("its last frame is no end") from None
        found = api_pb2.BackupEnd(rows=count, rows_bytes=total_bytes, rows_sha256=digest.digest())
        if end != found:
            raise self._damaged("its end names other rows than it has")
        if self._read(1):
            raise self._damaged("bytes follow its end")

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _: type[BaseException] | None,
        __: BaseException | None,
        ___: TracebackType | None,
    ) -> None:
        self.close()

    def _read_header(self) -> tuple[int, bool, api_pb2.BackupFileHeader, bytes]:
        fixed = self._read(_FIXED.size)
        if len(fixed) < _FIXED.size or not fixed.startswith(MAGIC):
            raise self._damaged("it does not begin as a backup does")
        _, number, encrypted, size = _FIXED.unpack(fixed)
        if size > HEADER_BYTES_MAX:
            raise self._damaged("its header has no possible size")
        encoded, digest = self._read(size), self._read(_DIGEST_BYTES)
        if hashlib.sha256(fixed + encoded).digest() != digest:
            raise self._damaged("its header does not fit its checksum")
        if number != FORMAT:
            raise InvalidRequest(
                f"{self.path} has the format {number}, and this program reads the format {FORMAT};"
                " use the version of raftkv that saved it, or a later one"
            )
        try:
            header = api_pb2.BackupFileHeader.FromString(encoded)
        except DecodeError:
            raise self._damaged("its header can't be read") from None
        return number, encrypted, header, digest

    def _read_frame(self, seal: Seal, number: int) -> tuple[bytes, bool]:
        head = self._read(_SIZE.size)
        if len(head) < _SIZE.size:
            raise self._damaged(f"it is cut short after {number} frames")
        (size,) = _SIZE.unpack(head)
        last, size = bool(size & _LAST), size & ~_LAST
        if size > FRAME_BYTES_MAX:
            raise self._damaged(f"frame {number} has no possible size")
        sealed = self._read(size)
        if len(sealed) < size:
            raise self._damaged(f"it is cut short in frame {number}")
        try:
            return seal.open(number, last, sealed), last
        except BrokenSeal:
            wrong_key = ", or it was saved with another key" if self.encrypted else ""
            raise self._damaged(
                f"frame {number} of its contents is not what was saved there{wrong_key}"
            ) from None

    def _rows_of(
        self, unpack: zstandard.ZstdDecompressor, frame: bytes, number: int
    ) -> Iterator[BackupRow]:
        try:
            size = zstandard.frame_content_size(frame)
            if not 0 <= size <= ROWS_BYTES_MAX:
                raise self._damaged(f"frame {number} has no possible size")
            message = api_pb2.BackupRows.FromString(unpack.decompress(frame))
            for row in message.rows:
                yield Family(row.family), row.key, row.value
        except (zstandard.ZstdError, DecodeError, ValueError) as error:
            raise self._damaged(f"frame {number} holds no rows ({error})") from error

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise StorageError(
                f"{self.path} can't be read: {error.strerror}", path=self.path
            ) from error

    def _damaged(self, how: str) -> DamagedBackup:
        return DamagedBackup(
            f"{self.path} is no whole backup: {how}; use another backup", path=self.path
        )


def _seal(key: bytes | None, header_digest: bytes) -> Seal:
    return Checksums(header_digest) if key is None else Encryption(key, header_digest)

"""The file of a durable clock: one time with a checksum, replaced atomically."""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path

from raftkv.errors import DamagedData, DirectoryInUse
from raftkv.files import translated, write_durably

_LOCK_SUFFIX = ".lock"


class ClockFile:
    """The file at `path` for times of one `kind`, with one owner at a time across all processes.

    Two clocks on one file would issue the same times, so the second one is refused.
    """

    def __init__(self, path: str | os.PathLike[str], kind: str) -> None:
        """Raises `DirectoryInUse` if another clock has it open, `StorageError` if it can't be
        created.
        """
        self._path = Path(path)
        self._format = f"raftkv {kind} clock 1".encode()
        lock = self._path.with_name(self._path.name + _LOCK_SUFFIX)
        with translated("opening a clock", lock):
            self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise DirectoryInUse(
                f"the clock {self._path} is held already; give each clock a file of its own",
                path=self._path,
            ) from error

    def read(self) -> bytes | None:
        """The time that was saved last, None for a new clock.

        Raises `DamagedData` for a file that is not complete, or of another kind of clock.
        """
        with translated("reading a clock", self._path):
            try:
                content = self._path.read_bytes()
            except FileNotFoundError:
                return None
        head, _, rest = content.partition(b"\n")
        seal, _, time = rest.partition(b"\n")
        if head != self._format or seal != _seal(head, time):
            raise self.damaged()
        return time

    def write(self, time: bytes) -> None:
        """Save a time durably. Raises `StorageError`."""
        with translated("saving a clock", self._path):
            content = (self._format, _seal(self._format, time), time)
            write_durably(self._path, b"\n".join(content))

    def damaged(self) -> DamagedData:
        """The error for this file if it can't be trusted."""
        return DamagedData(
            f"{self._path} is not a whole {self._format.decode()!r} file; restore it, or make a"
            " clock under a new name: from 0 this one would repeat times that it gave out before",
            path=self._path,
        )

    def close(self) -> None:
        """Release the file. Nothing is written, because the saved time is already on the disk."""
        os.close(self._lock)


def _seal(head: bytes, time: bytes) -> bytes:
    return hashlib.sha256(head + b"\n" + time).hexdigest().encode()

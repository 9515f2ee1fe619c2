"""The disk reserve: a file that is deleted so that a node on a full disk can start and free space.

Deletions and compactions need space before they free any, for log entries and for tables that are
written before the old ones are removed. Opening a database needs space too.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

DISK_SHARE_MAX = 8
"""The reserve is at most one eighth of its disk."""


class DiskReserve:
    """The file `reserve` in a data directory, of `size_bytes`; 0: no reserve."""

    def __init__(self, directory: Path, bytes_wanted: int) -> None:
        disk = os.statvfs(directory)
        self.size_bytes = min(bytes_wanted, disk.f_blocks * disk.f_frsize // DISK_SHARE_MAX)
        self._directory = directory
        self._path = directory / "reserve"

    @property
    def held(self) -> bool:
        return self._path.exists()

    def free_bytes(self) -> int:
        """Free space on the disk, without the reserve. Needs no file descriptor."""
        disk = os.statvfs(self._directory)
        return disk.f_bavail * disk.f_frsize

    def take(self) -> bool:
        """Allocate the reserve if twice its size is free. Returns whether it is allocated now.

        May wait for the disk.
        """
        if self.held or not self.size_bytes:
            return True
        if self.free_bytes() < 2 * self.size_bytes:
            return False
        unfinished = self._path.with_name("reserve.unfinished")
        try:
            file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(file, 0, self.size_bytes)
            finally:
                os.close(file)
            unfinished.rename(self._path)
        except OSError:
            self._remove(unfinished)
            return False
        return True

    def release(self) -> bool:
        """Delete the reserve. Returns whether it was allocated."""
        held = self.held
        self._remove(self._path)
        return held

    def _remove(self, path: Path) -> None:
        with suppress(OSError):
            path.unlink(missing_ok=True)

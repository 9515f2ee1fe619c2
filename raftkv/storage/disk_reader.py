"""Reads pieces of files from the disk itself, past what the kernel keeps of them in memory."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

_ALIGNMENT_BYTES = 4096
_O_DIRECT: int = getattr(os, "O_DIRECT", 0)


class DiskReader:
    """Reads with O_DIRECT where the file system has it: the page cache may still hold what was
    written when the disk no longer does, and what is read once a day has no place in it.

    Keeps no file open. Use from one thread, and only for files that nobody writes.
    """

    def __init__(self) -> None:
        self._buffer = mmap.mmap(-1, _ALIGNMENT_BYTES)
        self._flags = os.O_RDONLY | os.O_CLOEXEC | _O_DIRECT

    def read(self, path: Path, offset: int, size: int) -> memoryview:
        """`size` bytes from `offset`, fewer if the file ends before; valid until the next call.

        Raises `OSError`.
        """
        start = offset - offset % _ALIGNMENT_BYTES
        length = -(-(offset + size - start) // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        if len(self._buffer) < length:
            self._buffer = mmap.mmap(-1, length)
        try:
            end = start + self._fill(path, start, length)
        except OSError as error:
            if error.errno != errno.EINVAL or not self._flags & _O_DIRECT:
                raise
            self._flags &= ~_O_DIRECT
            end = start + self._fill(path, start, length)
        return memoryview(self._buffer)[offset - start : min(offset + size, end) - start]

    def _fill(self, path: Path, start: int, length: int) -> int:
        """Read into the buffer; how many bytes there were."""
        file = os.open(path, self._flags)
        try:
            filled = 0
            with memoryview(self._buffer) as buffer:
                while filled < length:
                    count = os.preadv(file, [buffer[filled:length]], start + filled)
                    filled += count
                    if count == 0 or count % _ALIGNMENT_BYTES:
                        break  # the end of the file
            return filled
        finally:
            os.close(file)

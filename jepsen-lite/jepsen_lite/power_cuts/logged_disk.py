"""A disk that logs what reaches it: a FUSE file system of two files, `disk` and `notes`.

`python -m jepsen_lite.power_cuts.logged_disk MOUNT IMAGE LOG` serves it until it is unmounted. The
log has every write and every flush of `disk`, whose bytes are in IMAGE, and the notes between them.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DISK, NOTES = "disk", "notes"
_HEADER = struct.Struct("<cQI")


@dataclass(frozen=True, slots=True)
class DiskOperation:
    """`kind` is `w`rite, `f`lush or `n`ote; a note is one whole line."""

    kind: str
    offset: int = 0
    data: bytes = b""


def read_log(file: Path) -> list[DiskOperation]:
    """The operations of a log, in their order."""
    return list(_operations(file.read_bytes()))


def _operations(logged: bytes) -> Iterator[DiskOperation]:
    at, line = 0, b""
    while at < len(logged):
        kind, offset, length = _HEADER.unpack_from(logged, at)
        at += _HEADER.size
        data = logged[at : at + length]
        at += length
        if kind == b"n":
            # The kernel hands a long note over in parts.
            line += data
            if not line.endswith(b"\n"):
                continue
            data, line = line, b""
        yield DiskOperation(kind.decode(), offset, data)


class _LoggedFiles:
    """The two files, as functions that FUSE calls."""

    use_ns = True

    def __init__(self, image: int, log: int) -> None:
        self._image, self._log = image, log
        self._notes_bytes = 0

    def _logged(self, kind: bytes, offset: int = 0, data: bytes = b"") -> None:
        record = _HEADER.pack(kind, offset, len(data)) + data
        if os.write(self._log, record) != len(record):
            raise OSError("a record was cut short")

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
        sizes = {DISK: os.fstat(self._image).st_size, NOTES: self._notes_bytes}
        if path[1:] not in sizes:
            raise FileNotFoundError(path)
        return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": sizes[path[1:]]}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", DISK, NOTES]

    def open(self, path: str, flags: int) -> int:
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(self._image, size, offset) if path[1:] == DISK else b""

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        if path[1:] == NOTES:
            self._logged(b"n", data=data)
            self._notes_bytes += len(data)
            return len(data)
        self._logged(b"w", offset, data)
        return os.pwrite(self._image, data, offset)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        if path[1:] == DISK:
            self._logged(b"f")
        return 0


def main() -> None:
    """Serve the file system of the command line."""
    import mfusepy  # it needs libfuse, which a machine may lack

    mount, image, log = sys.argv[1:]
    files: Any = type("_FuseFiles", (_LoggedFiles, mfusepy.Operations), {})(
        os.open(image, os.O_RDWR), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    )
    # One thread: the log has one order.
    mfusepy.FUSE(files, mount, foreground=True, nothreads=True, fsname="jepsen-lite")


if __name__ == "__main__":
    main()

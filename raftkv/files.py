"""Durable file operations: fsync, atomic replacement, removal, and the errors of the disk."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raftkv.errors import ConfigurationError, DiskFull, OutOfResources, StorageError

RESOURCES_ADVICE = (
    "the disk has not failed; raise this process's limit of open files (ulimit -n, LimitNOFILE) or"
    " give the machine more memory"
)
RETRY_AFTER_S = 1.0

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


@contextmanager
def translated(doing: str, path: Path) -> Iterator[None]:
    """Translate an `OSError` of the body to a `StorageError`."""
    try:
        yield
    except OSError as error:
        raise from_os_error(error, doing, path) from error


def from_os_error(error: OSError, doing: str, path: Path) -> StorageError:
    """The storage error for an `OSError`, which names the action, the path and the fix."""
    reason = error.strerror or str(error)
    if error.errno in _NO_SPACE:
        return DiskFull(
            f"no space while {doing} in {path}: {reason}; free space on this disk, then restart",
            path=path,
        )
    if error.errno in _NO_RESOURCES:
        return out_of_resources(doing, path, reason)
    return StorageError(f"the disk failed while {doing} in {path}: {reason}", path=path)


def out_of_resources(doing: str, path: Path, reason: str) -> OutOfResources:
    """The error for a lack of descriptors or memory, which is no failure of the disk."""
    return OutOfResources(
        f"this process is out of resources while {doing} in {path}: {reason}; {RESOURCES_ADVICE}",
        retry_after_s=RETRY_AFTER_S,
        path=path,
    )


def sync_file(path: Path) -> None:
    """fsync a file's bytes, or a directory's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """fsync everything below `root`, and `root` itself."""
    for directory, _, names in os.walk(root):
        for name in names:
            sync_file(Path(directory, name))
        sync_file(Path(directory))


def write_durably(path: Path, content: bytes, mode: int | None = None) -> None:
    """Replace a file atomically: a crash leaves the complete old or the complete new content.

    `mode`: who may read and write it, from its first byte on; None: as the umask has it.
    """
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        if mode is not None:
            os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    sync_file(path.parent)


def make_private(root: Path) -> int:
    """Remove all rights of group and others to `root` and everything below it.

    Returns the number of files and directories that were changed. Links are not followed.
    """
    changed = 0
    for directory, _, names in os.walk(root):
        for path in (Path(directory), *(Path(directory, name) for name in names)):
            mode = path.lstat().st_mode
            if mode & 0o077 and not stat.S_ISLNK(mode):
                path.chmod(stat.S_IMODE(mode) & 0o700)
                changed += 1
    return changed


def remove_tree(path: Path) -> None:
    """Remove a directory and everything below it, if it exists."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return


def size_bytes(directory: Path) -> int:
    """The size of the files directly in `directory`. Files that vanish meanwhile count 0."""
    total = 0
    with os.scandir(directory) as files:
        for file in files:
            try:
                total += file.stat().st_size
            except FileNotFoundError:
                continue
    return total


def require_private(path: Path, setting: str) -> None:
    """Raise `ConfigurationError` if others than its owner may read or write the file at `path`.

    A file of root's may be readable by its group as well, if this process is not root's: so the
    volumes of Kubernetes' secrets are.
    """
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    given_by_root = status.st_uid == 0 and os.geteuid() != 0
    if mode & (0o037 if given_by_root else 0o077):
        raise ConfigurationError(
            f"{setting} is {path}, which others than its owner may read or write (mode"
            f" {mode:04o}). Fix: chmod 600 {path}.",
            key=setting,
        )

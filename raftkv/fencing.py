"""Fencing of other stores: a guard that admits a write only with a current fencing token.

A lock alone does not protect a file or a database: its holder may be paused, lose the lock without
noticing, and write after it resumes. So every write carries the token of its lock, and the guard in
front of the store refuses a token that is lower than one it has seen.

    guard = FencingGuard("/var/lib/blobs/fencing")
    with guard.admitted("report.pdf", lock.token):
        blob.write_bytes(data)

The tokens may come from any source whose numbers grow with every new holder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raftkv.arguments import to_int64, to_path, to_text
from raftkv.errors import DamagedData, FencedOff, LockReentered
from raftkv.files import sync_file, translated, write_durably

_FORMAT = "raftkv fencing token"
_LOCK_SUFFIX = ".lock"


class FencingGuard:
    """Remembers the highest token of each resource, in memory or, given a directory, on disk.

    Threads of a process may share one guard. With a directory, processes of one machine may share
    it too, and tokens survive a crash: a token is on the disk before its first write begins. A
    directory on a network file system is not supported. A thread that is admitted by one guard must
    not use a second guard of the same directory for that resource: it would wait for itself.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        """Raises `StorageError` if the directory can't be made."""
        self._directory = None if directory is None else to_path(directory, "directory")
        self._highest: dict[str, int] = {}
        self._busy: dict[str, threading.Lock] = {}
        self._users: dict[str, int] = {}  # the thread that has the resource to itself
        self._guard = threading.Lock()
        if self._directory is not None:
            with translated("making the directory of a fencing guard", self._directory):
                self._directory.mkdir(parents=True, exist_ok=True)
                sync_file(self._directory.parent)

    @contextmanager
    def admitted(self, resource: str, token: int) -> Iterator[None]:
        """Run the body under `token`, as the only admitted one of the resource.

        A write with an older token has therefore ended before a newer token is admitted. Raises
        `FencedOff` for a token lower than one seen before (the body does not run), `InvalidRequest`
        for a number that is no token, `StorageError` if the token can't be stored, and
        `DamagedData` if the stored token can't be read. Raises `LockReentered` if the calling
        thread runs such a body of this resource already: it would wait for itself.
        """
        to_int64(token, "token", 1)
        if self._is_alone(resource):
            raise LockReentered(
                f"this thread is admitted to {resource!r} already: it would wait for itself; end"
                " that write first, or let another thread make this one",
                resource=resource,
            )
        with self._alone(resource):
            highest = self._read(resource)
            if token < highest:
                raise FencedOff(
                    f"token {token} is too old for {resource!r}: {highest} has been seen; stop,"
                    " and acquire the lock anew",
                    resource=resource,
                    highest_token=highest,
                )
            if token > highest:
                self._remember(resource, token)
            yield

    def highest(self, resource: str) -> int:
        """The highest token that was admitted, 0 if none was.

        Waits for a write of another thread or process. Within `admitted` of the same resource it
        returns at once. Raises `StorageError`, and `DamagedData` if the stored token can't be read.
        """
        if self._is_alone(resource):
            return self._read(resource)
        with self._alone(resource):
            return self._read(resource)

    def _is_alone(self, resource: str) -> bool:
        """Whether the calling thread has the resource to itself."""
        return self._users.get(to_text(resource, "resource")) == threading.get_ident()

    @contextmanager
    def _alone(self, resource: str) -> Iterator[None]:
        with self._guard:
            busy = self._busy.setdefault(resource, threading.Lock())
        with busy:
            try:
                self._users[resource] = threading.get_ident()
                with self._alone_among_processes(resource):
                    yield
            finally:
                self._users.pop(resource, None)

    @contextmanager
    def _alone_among_processes(self, resource: str) -> Iterator[None]:
        if self._directory is None:
            yield
            return
        # A separate file, because the token's file is replaced, which would drop its lock.
        path = self._path(resource).with_suffix(_LOCK_SUFFIX)
        with translated("locking a resource", path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            with translated("locking a resource", path):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _path(self, resource: str) -> Path:
        assert self._directory is not None
        return self._directory / hashlib.sha256(resource.encode()).hexdigest()

    def _read(self, resource: str) -> int:
        if self._directory is None:
            return self._highest.get(resource, 0)
        path = self._path(resource)
        with translated("reading a fencing token", path):
            try:
                lines = path.read_bytes().split(b"\n", 2)
            except FileNotFoundError:
                return 0
        if len(lines) != 3 or lines[0] != _FORMAT.encode() or lines[2] != _seal(resource, lines[1]):
            raise DamagedData(
                f"{path} is no fencing token of {resource!r}; find out the highest token that was"
                " used for it, and only then remove the file",
                path=path,
            )
        return int(lines[1])

    def _remember(self, resource: str, token: int) -> None:
        if self._directory is None:
            self._highest[resource] = token
            return
        path, number = self._path(resource), str(token).encode()
        with translated("remembering a fencing token", path):
            write_durably(path, b"\n".join((_FORMAT.encode(), number, _seal(resource, number))))


def _seal(resource: str, number: bytes) -> bytes:
    """A checksum that binds a file's content to this resource."""
    return hashlib.sha256(resource.encode() + b"\n" + number).hexdigest().encode()

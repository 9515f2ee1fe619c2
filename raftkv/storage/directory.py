"""The data directory: whose it is, that nobody else uses it, that there is room in it.

<data directory>/
├── identity.json   format, cluster id and node id; written once
├── lock            held with flock while a process uses the directory
├── log/            the Raft log (log_store.py)
└── state/          the applied state (state_storage.py)
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from raftkv.errors import DirectoryInUse, DirectoryMismatch, DiskFull
from raftkv.files import sync_file, translated, write_durably
from raftkv.storage.damage import damaged

FORMAT_VERSION = 1
FREE_BYTES_MIN = 64 << 20

_IDENTITY = "identity.json"
_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose data a directory holds. A node id is only unique within its cluster."""

    cluster_id: int
    node_id: int
    format_version: int = FORMAT_VERSION


class DataDirectory:
    """A data directory that this process holds, until `close`."""

    def __init__(self, path: Path, identity: Identity, lock: int) -> None:
        self.path = path
        self.identity = identity
        self._lock = lock

    @property
    def log_path(self) -> Path:
        return self.path / "log"

    @property
    def state_path(self) -> Path:
        return self.path / "state"

    def close(self) -> None:
        """Let another process use the directory. The stores must be closed by then."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def open_directory(
    path: Path, cluster_id: int, node_id: int, *, free_bytes_min: int = FREE_BYTES_MIN
) -> DataDirectory:
    """Take the data directory for this node, making it if it is not there.

    Raises `DirectoryInUse` if another process holds it, `DirectoryMismatch` if it belongs to
    another cluster, node or format, or is not ours at all, `DamagedData` if its log is gone, and
    `DiskFull` if less than `free_bytes_min` is left on its disk.
    """
    with translated("opening the data directory", path):
        path.mkdir(parents=True, exist_ok=True)
        lock = _take_lock(path)
        try:
            identity = _claim(path, Identity(cluster_id=cluster_id, node_id=node_id))
            _require_log(path)
            check_space(path, free_bytes_min)
        except BaseException:
            os.close(lock)
            raise
    return DataDirectory(path, identity, lock)


def read_identity(path: Path) -> Identity | None:
    """Whose the directory is, or None if it is new. Raises `DamagedData` if it can't be told."""
    try:
        content = (path / _IDENTITY).read_bytes()
    except FileNotFoundError:
        return None
    try:
        fields = json.loads(content)
        return Identity(
            cluster_id=int(fields["cluster_id"]),
            node_id=int(fields["node_id"]),
            format_version=int(fields["format_version"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(f"{path / _IDENTITY} is damaged: {error}", path=path) from error


def check_space(path: Path, free_bytes_min: int = FREE_BYTES_MIN) -> None:
    """Raise `DiskFull` if the disk under `path` has less than `free_bytes_min` left."""
    free = shutil.disk_usage(path).free
    if free < free_bytes_min:
        raise DiskFull(
            f"only {free >> 20} MiB are free on the disk of {path}, a node needs "
            f"{free_bytes_min >> 20} MiB to run; free some space, then restart",
            path=path,
            free_bytes=free,
        )


def _take_lock(path: Path) -> int:
    lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise DirectoryInUse(
            f"the data directory {path} is in use by process {holder}; "
            "stop that process, or give this node a directory of its own",
            path=path,
            process=holder,
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _claim(path: Path, wanted: Identity) -> Identity:
    found = read_identity(path)
    if found is None:
        strangers = sorted(
            name.name for name in path.iterdir() if not name.name.startswith((_LOCK, _IDENTITY))
        )
        if strangers:
            raise DirectoryMismatch(
                f"{path} is not empty ({', '.join(strangers[:3])}) and has no {_IDENTITY}: it is "
                "not a raftkv data directory; choose an empty or a new one",
                path=path,
            )
        write_durably(path / _IDENTITY, json.dumps(asdict(wanted), indent=2).encode() + b"\n")
        sync_file(path.parent)
        return wanted
    if found != wanted:
        raise DirectoryMismatch(_difference(path, found, wanted), path=path)
    return found


def _require_log(path: Path) -> None:
    """The log is made before the state, so a state without one is a node without its votes."""
    if (path / "state").exists() and not (path / "log" / "CURRENT").exists():
        raise damaged(f"{path} holds a state, but its log is gone", path=path)


def _difference(path: Path, found: Identity, wanted: Identity) -> str:
    if found.format_version != wanted.format_version:
        return (
            f"{path} has data format {found.format_version}, this program uses "
            f"{wanted.format_version}; run the version that wrote it"
        )
    if found.cluster_id != wanted.cluster_id:
        return (
            f"{path} belongs to cluster {found.cluster_id:016x}, not to {wanted.cluster_id:016x}; "
            "check the cluster name and the initial members, or give this node another directory"
        )
    return (
        f"{path} belongs to node {found.node_id}, not to node {wanted.node_id}; "
        "check the node id, or give this node another directory"
    )

"""The data directory: its identity, its lock against a second process, and its free space.

<data directory>/
├── identity.json   the cluster and the node that it belongs to (identity.py)
├── lock            held with flock while a process uses the directory
├── root-reset.json a new password for the user root, until it is applied (server/root_reset.py)
├── reserve         space for a start on a full disk (reserve.py)
├── log/            the Raft log (log_store.py)
└── state/          the applied state (state_storage.py)
"""

from __future__ import annotations

import fcntl
import os
import shutil
from dataclasses import replace
from pathlib import Path

import structlog

from raftkv.errors import ConfigurationError, DirectoryInUse, DirectoryMismatch, DiskFull
from raftkv.files import make_private, sync_file, translated, write_durably
from raftkv.storage.damage import damaged
from raftkv.storage.identity import FORMAT_VERSION, DirectoryIdentity, Stage, decode_identity
from raftkv.storage.reserve import DiskReserve

_log = structlog.get_logger("raftkv.storage")

FREE_BYTES_MIN = 16 << 20

_IDENTITY = "identity.json"
_LOCK = "lock"


class DataDirectory:
    """A data directory that this process has locked, until `close`. An `IdentityStore`."""

    def __init__(self, path: Path, lock: int, reserve: DiskReserve) -> None:
        self.path = path
        self.reserve = reserve
        self._lock = lock

    @property
    def log_path(self) -> Path:
        return self.path / "log"

    @property
    def state_path(self) -> Path:
        return self.path / "state"

    @property
    def has_log(self) -> bool:
        """Whether the directory has a log."""
        return (self.log_path / "CURRENT").exists()

    def load(self) -> DirectoryIdentity | None:
        """The directory's identity, None for a new directory. Raises `DamagedData`."""
        return read_identity(self.path)

    def save(self, identity: DirectoryIdentity) -> None:
        """Write the directory's identity durably."""
        with translated("writing the identity", self.path):
            write_durably(self.path / _IDENTITY, identity.encode())
            sync_file(self.path.parent)

    def close(self) -> None:
        """Release the lock. The stores must be closed before."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def open_directory(
    path: Path,
    cluster_name: str,
    node_id: int,
    disk_id: int,
    *,
    free_bytes_min: int = FREE_BYTES_MIN,
    reserve_bytes: int = 0,
) -> DataDirectory:
    """Lock the data directory for this node. A missing directory is created.

    A new directory has no identity until `save`. `disk_id` is for a directory of raftkv 0.1.0,
    which has none. Raises `DirectoryInUse` if another process has locked it, `DirectoryMismatch`
    if it belongs to another cluster, node, format or program, `DamagedData` if its log is gone, and
    `DiskFull` if less than `free_bytes_min` is left on its disk even after the reserve of
    `reserve_bytes` was released.
    """
    with translated("opening the data directory", path):
        path.mkdir(0o700, parents=True, exist_ok=True)
        directory = DataDirectory(path, _take_lock(path), DiskReserve(path, reserve_bytes))
        try:
            _claim(directory, cluster_name, node_id, disk_id)
            opened_up = make_private(path)
            if opened_up:
                _log.warning("made_private", path=str(path), files=opened_up, node=node_id)
            _make_room(directory.reserve, path, free_bytes_min)
        except BaseException:
            directory.close()
            raise
    return directory


def open_stopped_directory(path: Path) -> DataDirectory:
    """Lock the data directory of a node that does not run, whichever node that is.

    Raises `ConfigurationError` if it is not the data directory of a node, `DirectoryInUse` if its
    node runs, and as `read_identity`.
    """
    if read_identity(path) is None:
        raise ConfigurationError(
            f"{path} is not the data directory of a node: it has no {_IDENTITY}. Fix: name the"
            " data_dir of a node of the cluster, on the machine that has it."
        )
    with translated("opening the data directory", path):
        return DataDirectory(path, _take_lock(path), DiskReserve(path, 0))


def read_identity(path: Path) -> DirectoryIdentity | None:
    """The directory's identity, None for a new directory.

    Raises `DamagedData` if it can't be read, and `DirectoryMismatch` for an unknown format.
    """
    try:
        content = (path / _IDENTITY).read_bytes()
    except FileNotFoundError:
        return None
    try:
        identity = decode_identity(content)
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(f"{path / _IDENTITY} is damaged: {error}", path=path) from error
    if isinstance(identity, int):
        raise DirectoryMismatch(
            f"{path} has data format {identity}, this program uses {FORMAT_VERSION}; run the"
            " version that wrote it",
            path=path,
        )
    return identity


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


def _make_room(reserve: DiskReserve, path: Path, free_bytes_min: int) -> None:
    """Release the reserve if space is low. Raises `DiskFull` if a node still can't start."""
    free_bytes = reserve.free_bytes()
    if free_bytes < max(free_bytes_min, reserve.size_bytes) and reserve.release():
        _log.warning("disk_reserve_released", path=str(path), free_bytes=free_bytes)
    check_space(path, free_bytes_min)


def _take_lock(path: Path) -> int:
    lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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


def check_identity(path: Path, cluster_name: str, node_id: int) -> DirectoryIdentity | None:
    """The identity of a directory that this node may use; None for a new or missing directory.

    Changes nothing and needs no lock. Raises `DirectoryMismatch` if the directory belongs to
    another cluster, node, format or program, and `DamagedData`.
    """
    with translated("reading the data directory", path):
        found = read_identity(path)
        if found is None:
            _require_empty(path)
            return None
    if found.node_id != node_id:
        raise DirectoryMismatch(
            f"{path} belongs to node {found.node_id}, not to node {node_id}; "
            "check the node id, or give this node another directory",
            path=path,
        )
    if found.cluster_name not in ("", cluster_name):
        raise DirectoryMismatch(
            f"{path} belongs to the cluster {found.cluster_name!r}, not to {cluster_name!r}; "
            "check the cluster name, or give this node another directory",
            path=path,
        )
    return found


def _require_empty(path: Path) -> None:
    if not path.exists():
        return
    unknown = sorted(
        name.name for name in path.iterdir() if not name.name.startswith((_LOCK, _IDENTITY))
    )
    if unknown:
        raise DirectoryMismatch(
            f"{path} is not empty ({', '.join(unknown[:3])}) and has no {_IDENTITY}: it is "
            "not a raftkv data directory; choose an empty or a new one",
            path=path,
        )


def _claim(directory: DataDirectory, cluster_name: str, node_id: int, disk_id: int) -> None:
    """Raise if the directory belongs to another node or program, or lacks its log."""
    path, found = directory.path, check_identity(directory.path, cluster_name, node_id)
    if found is None:
        return
    if not found.disk_id:
        if not (path / "log" / "CURRENT").exists() and not (path / "state").exists():
            found = replace(found, stage=Stage.FOUNDING, incarnation=0)
        directory.save(replace(found, disk_id=disk_id, cluster_name=cluster_name))
    _require_log(path, found.stage)


def _require_log(path: Path, stage: Stage) -> None:
    """The log is created before the state, so a state without a log has lost the node's votes."""
    if (path / "log" / "CURRENT").exists():
        return
    if stage is Stage.MEMBER or (path / "state").exists():
        raise damaged(f"the log in {path} is gone", path=path)

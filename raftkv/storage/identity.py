"""The identity of a data directory: cluster, incarnation, node, disk, and stage of membership."""

from __future__ import annotations

import base64
import enum
import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Protocol

from raftkv.raft.running_hash import UNKNOWN
from raftkv.versions import HASHED

FORMAT_VERSION = 2
"""Format 1 is that of raftkv 0.1.0: `{"format_version", "cluster_id", "node_id"}`."""


class Stage(enum.StrEnum):
    """The stages in which a node becomes a member of its cluster, or of a new one."""

    FOUNDING = "founding"  # a founder of the cluster; no founder has voted yet
    JOINING = "joining"  # added to a running cluster, and not joined yet
    MEMBER = "member"  # log and state exist, and must exist from now on
    # The majority was lost: this disk becomes a cluster of one node at its next start.
    REFOUNDING = "refounding"


@dataclass(frozen=True, slots=True)
class DirectoryIdentity:
    """The node to which a data directory belongs. A node id is only unique within its cluster.

    `incarnation` is a random number, drawn when the cluster is founded, 0 before. `disk_id` is
    drawn when the directory is created. `membership` and `version` are the payloads that a founder
    has stored for the log's first entries; while refounding, `membership` is that of the new
    cluster. `out_of_service` is the reason for which the node is out of service, empty if it is in
    service.
    """

    cluster_id: int
    node_id: int
    disk_id: int
    cluster_name: str = ""
    incarnation: int = 0
    stage: Stage = Stage.FOUNDING
    membership: bytes = b""
    version: int = HASHED
    out_of_service: str = ""

    @property
    def empty_log_hash(self) -> int:
        """The running hash of an empty log of this cluster.

        It is unknown in a cluster that was founded by raftkv 0.1.0, also for later members.
        """
        began_without = self.incarnation == _incarnation_of_0_1_0(self.cluster_id)
        return UNKNOWN if began_without else self.incarnation

    def encode(self) -> bytes:
        written = {"format_version": FORMAT_VERSION, **asdict(self)}
        written["membership"] = base64.b64encode(self.membership).decode()
        return json.dumps(written, indent=2).encode() + b"\n"


class IdentityStore(Protocol):
    """Stores one identity. `save` is durable when it returns. Both may raise `StorageError`."""

    def load(self) -> DirectoryIdentity | None:
        """The identity that was saved last; None for a new directory."""

    def save(self, identity: DirectoryIdentity) -> None: ...


class MemoryIdentityStore:
    """An `IdentityStore` for tests and the simulator."""

    def __init__(self, identity: DirectoryIdentity | None = None) -> None:
        self._identity = identity

    def load(self) -> DirectoryIdentity | None:
        return self._identity

    def save(self, identity: DirectoryIdentity) -> None:
        self._identity = identity


def decode_identity(content: bytes) -> DirectoryIdentity | int:
    """The identity, or the number of the format if this program can't read it.

    Raises `ValueError`, `KeyError` or `TypeError` for content that is no identity.
    """
    read = json.loads(content)
    if not isinstance(read, dict):
        raise TypeError(f"it holds a {type(read).__name__}")
    written = _number(read, "format_version")
    if written == 1:
        return _of_format_1(_number(read, "cluster_id"), _number(read, "node_id"))
    if written != FORMAT_VERSION:
        return written
    unknown = read.keys() - {"format_version", *(each.name for each in fields(DirectoryIdentity))}
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} is in no identity")
    identity = DirectoryIdentity(
        cluster_id=_number(read, "cluster_id"),
        node_id=_number(read, "node_id"),
        disk_id=_number(read, "disk_id"),
        cluster_name=_text(read, "cluster_name"),
        incarnation=_number(read, "incarnation"),
        stage=Stage(read["stage"]),
        membership=base64.b64decode(_text(read, "membership"), validate=True),
        version=_number(read, "version", bits=32),
        out_of_service=_text(read, "out_of_service"),
    )
    if not identity.disk_id:
        raise ValueError("disk_id is 0")
    return identity


def _number(read: dict[str, object], name: str, bits: int = 64) -> int:
    value = read[name]
    if type(value) is not int or not 0 <= value < 1 << bits:
        raise TypeError(f"{name} is no number of {bits} bits")
    return value


def _text(read: dict[str, object], name: str) -> str:
    value = read[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def _of_format_1(cluster_id: int, node_id: int) -> DirectoryIdentity:
    # Its disk gets an id when the directory is claimed.
    incarnation = _incarnation_of_0_1_0(cluster_id)
    return DirectoryIdentity(cluster_id, node_id, 0, incarnation=incarnation, stage=Stage.MEMBER)


def _incarnation_of_0_1_0(cluster_id: int) -> int:
    """A number that all nodes of that cluster compute alike, and no node of another cluster."""
    digest = hashlib.sha256(b"raftkv 0.1.0 " + cluster_id.to_bytes(8, "big")).digest()
    return int.from_bytes(digest[:8], "big") or 1

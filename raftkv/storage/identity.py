"""Whose a data directory is: cluster and life of it, node, disk, and how far the node has come."""

from __future__ import annotations

import base64
import enum
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Protocol

from raftkv.versions import HASHED

FORMAT_VERSION = 2
"""Format 1 is that of raftkv 0.1.0: `{"format_version", "cluster_id", "node_id"}`."""


class Stage(enum.StrEnum):
    """How far a node has come in becoming a member."""

    FOUNDING = "founding"  # one of the first nodes; nobody has voted yet
    JOINING = "joining"  # added to a running cluster; it has not joined yet
    MEMBER = "member"  # log and state are there, and must be from now on


@dataclass(frozen=True, slots=True)
class Identity:
    """What a data directory says of its owner. A node id is only unique within its cluster.

    `incarnation` is drawn when a cluster is founded, 0 before; `disk_id` when the directory is
    made. `membership` and `version` are what a founder has stored for the log's first entries.
    `out_of_service` says why the node takes no part any more, empty if it does.
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

    def encode(self) -> bytes:
        fields = asdict(self)
        fields["membership"] = base64.b64encode(self.membership).decode()
        return json.dumps({"format_version": FORMAT_VERSION, **fields}, indent=2).encode() + b"\n"


class IdentityStore(Protocol):
    """Keeps one identity. `save` is durable when it returns; both may raise `StorageError`."""

    def load(self) -> Identity | None:
        """What was saved last; None for a directory that nobody has used."""

    def save(self, identity: Identity) -> None: ...


class MemoryIdentityStore:
    """An `IdentityStore` for tests and the simulator."""

    def __init__(self, identity: Identity | None = None) -> None:
        self._identity = identity

    def load(self) -> Identity | None:
        return self._identity

    def save(self, identity: Identity) -> None:
        self._identity = identity


def decode_identity(content: bytes) -> Identity | int:
    """The identity, or the number of the format if it is none that this program writes or reads.

    Raises `ValueError`, `KeyError` or `TypeError` for what is no identity.
    """
    fields = json.loads(content)
    written = int(fields.pop("format_version"))
    if written == 1:
        return _of_format_1(int(fields["cluster_id"]), int(fields["node_id"]))
    if written != FORMAT_VERSION:
        return written
    fields["stage"] = Stage(fields["stage"])
    fields["membership"] = base64.b64decode(fields["membership"])
    return Identity(**fields)


def _of_format_1(cluster_id: int, node_id: int) -> Identity:
    # Every node of that cluster must come to the same incarnation without asking, and no node of
    # another cluster may. Its disk gets an id when the directory is claimed.
    digest = hashlib.sha256(b"raftkv 0.1.0 " + cluster_id.to_bytes(8, "big")).digest()
    incarnation = int.from_bytes(digest[:8], "big") or 1
    return Identity(cluster_id, node_id, 0, incarnation=incarnation, stage=Stage.MEMBER)

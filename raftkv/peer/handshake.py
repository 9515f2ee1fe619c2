"""How two nodes introduce themselves, and the channel options that both ends must agree on.

The caller says in the call's metadata who it is and whom it means to reach (a Hello). The callee
answers with a Challenge, the caller with its proof, and is admitted; or the call ends with
FAILED_PRECONDITION and one of `Refusal` in the trailing metadata.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc
from google.protobuf.message import DecodeError

from raftkv.peer.secret import ClusterSecret, new_nonce
from raftkv.raft.entry import Address
from raftkv.rpc.v1 import peer_pb2
from raftkv.storage.ports import Start
from raftkv.versions import SUPPORTED, VersionRange

SERVICE = "raftkv.rpc.v1.Peer"
CONNECT = f"/{SERVICE}/Connect"
SEND_SNAPSHOT = f"/{SERVICE}/SendSnapshot"

HELLO_KEY = "raftkv-hello-bin"
REASON_KEY = "raftkv-reason"
PROOF_KEY = "raftkv-proof-bin"

ID_MAX = 2**63 - 1
ADDRESS_MAX = 300
_ADDRESS = re.compile(r"[^\x00-\x20\x7f,/]+:[0-9]{1,5}")


class Refusal(enum.StrEnum):
    """Why a peer does not let us in. The values are those of the wire."""

    BAD_HELLO = "BAD_HELLO"
    WRONG_CLUSTER = "WRONG_CLUSTER"
    WRONG_INCARNATION = "WRONG_INCARNATION"
    WRONG_NODE = "WRONG_NODE"
    WRONG_VERSION = "WRONG_VERSION"
    WRONG_SECRET = "WRONG_SECRET"
    NOT_READY = "NOT_READY"
    BREACH = "BREACH"
    # Of a node that can't take part from the disk that it has:
    REMOVED = "REMOVED"
    OTHER_DISK = "OTHER_DISK"
    OLDER_COPY = "OLDER_COPY"
    CLONE = "CLONE"


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Who this node is in this life, and where it is reached. `incarnation` 0: not founded yet."""

    cluster_id: int
    incarnation: int
    node_id: int
    address: Address
    disk_id: int = 0
    start: Start = field(default_factory=Start)
    versions: VersionRange = SUPPORTED


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, from which disk, and where it says that it can be reached itself.

    `proven`: it knows the cluster's secret, and there is one.
    """

    node_id: int
    address: Address
    incarnation: int = 0
    disk_id: int = 0
    start: Start = field(default_factory=Start)
    versions: VersionRange = SUPPORTED
    last_log_index: int = 0
    proven: bool = False


@dataclass(frozen=True, slots=True)
class HandshakeRefused:
    """A refusal with words for the log of the one that was refused."""

    reason: Refusal
    message: str


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a call is over. Two endings are equal if code and reason are; words vary.

    `proven`: the reason is that of a node which knows the cluster's secret, or there is none.
    """

    code: str
    reason: str
    details: str = field(compare=False)
    proven: bool = field(default=True, compare=False)


def hello(identity: PeerIdentity, to: int, last_log_index: int = 0) -> bytes:
    """What `identity` says of itself when it calls node `to`; never the same twice."""
    return peer_pb2.Hello(
        cluster_id=identity.cluster_id,
        incarnation=identity.incarnation,
        node_id=identity.node_id,
        to=to,
        peer_address=identity.address.peer,
        client_address=identity.address.client,
        version_min=identity.versions.minimum,
        version_max=identity.versions.maximum,
        disk_id=identity.disk_id,
        start_number=identity.start.number,
        start_id=identity.start.id,
        last_log_index=last_log_index,
        nonce=new_nonce(),
    ).SerializeToString()


def check_hello(data: object, identity: PeerIdentity) -> Caller | HandshakeRefused:
    """Who calls, or why `identity` does not let it in (nothing that its data says is looked at)."""
    try:
        said = peer_pb2.Hello.FromString(data if isinstance(data, bytes) else b"")
    except DecodeError:
        return HandshakeRefused(Refusal.BAD_HELLO, "the call's metadata holds no Hello")
    own, sender = identity.node_id, said.node_id
    if not (0 < sender <= ID_MAX and said.nonce and said.last_log_index <= ID_MAX):
        return HandshakeRefused(
            Refusal.BAD_HELLO, "the call's metadata does not say who calls whom"
        )
    for address in (said.peer_address, said.client_address):
        if len(address) > ADDRESS_MAX or not _ADDRESS.fullmatch(address):
            return HandshakeRefused(
                Refusal.BAD_HELLO, f"node {sender} says that it is at {address[:ADDRESS_MAX]!r}"
            )
    if said.cluster_id != identity.cluster_id:
        return HandshakeRefused(
            Refusal.WRONG_CLUSTER,
            f"this is cluster {identity.cluster_id:016x}, the caller's is {said.cluster_id:016x};"
            " look at cluster_name and at the addresses of the members",
        )
    if said.to != own or sender == own:
        return HandshakeRefused(
            Refusal.WRONG_NODE, f"this is node {own}, node {sender} meant to reach node {said.to}"
        )
    if 0 != said.incarnation != identity.incarnation != 0:
        return HandshakeRefused(
            Refusal.WRONG_INCARNATION,
            f"node {own} belongs to the cluster that was founded as {identity.incarnation:016x},"
            f" node {sender} to {said.incarnation:016x}: two lives of the same settings are two"
            " clusters. Neither takes part in the other",
        )
    versions = VersionRange(said.version_min, said.version_max)
    if versions.minimum > identity.versions.maximum or versions.maximum < identity.versions.minimum:
        return HandshakeRefused(
            Refusal.WRONG_VERSION,
            f"node {own} can take part in cluster versions {identity.versions}, node {sender} in"
            f" {versions}: run programs that share one",
        )
    return Caller(
        sender,
        Address(said.peer_address, said.client_address),
        said.incarnation,
        said.disk_id,
        Start(said.start_number, said.start_id),
        versions,
        said.last_log_index,
    )


async def ending_of(call: grpc.aio.Call, hello: bytes, secret: ClusterSecret) -> Ending:
    """How the call that began with `hello` ended; cancels it if it has not."""
    call.cancel()
    code = await call.code()
    said = dict(await call.trailing_metadata() or ())
    reason, proof = str(said.get(REASON_KEY, "")), said.get(PROOF_KEY, b"")
    proven = isinstance(proof, bytes) and secret.fits(proof, secret.of_refusal(hello, reason))
    return Ending(code.name, reason, await call.details() or "", proven)

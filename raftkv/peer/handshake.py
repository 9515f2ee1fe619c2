"""The handshake between two nodes: hello, challenge, proof, admission, or a typed refusal.

The caller sends a Hello in the call's metadata: who it is, and which node it means to reach. The
callee answers with a Challenge, which proves that it knows the cluster's secret. The caller answers
with its proof, and the callee admits it. A refused call ends with FAILED_PRECONDITION and one of
`Refusal` in the trailing metadata.

Over TLS certificates take the place of the secret: both nodes verify the certificate of the other,
which must name the node that it claims to be, and the proofs are empty.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import grpc
from google.protobuf.message import DecodeError

from raftkv.peer.secret import ClusterSecret, new_nonce
from raftkv.raft.entry import Address
from raftkv.rpc.v1 import peer_pb2
from raftkv.storage.ports import Start
from raftkv.tls.certificates import Certificate
from raftkv.tls.names import node_name
from raftkv.tls.port import PLAINTEXT, PortTls
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
    """Why a node refuses a caller. The values are those of the wire."""

    BAD_HELLO = "BAD_HELLO"
    WRONG_CLUSTER = "WRONG_CLUSTER"
    WRONG_INCARNATION = "WRONG_INCARNATION"
    WRONG_NODE = "WRONG_NODE"
    WRONG_VERSION = "WRONG_VERSION"
    WRONG_SECRET = "WRONG_SECRET"
    WRONG_CERTIFICATE = "WRONG_CERTIFICATE"
    NOT_READY = "NOT_READY"
    BREACH = "BREACH"
    # Of a node that can't take part from its disk:
    REMOVED = "REMOVED"
    OTHER_DISK = "OTHER_DISK"
    OLDER_COPY = "OLDER_COPY"
    CLONE = "CLONE"


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Who a node is, and where it is reached. `incarnation` is 0 before the cluster is founded."""

    cluster_id: int
    incarnation: int
    node_id: int
    address: Address
    disk_id: int = 0
    start: Start = field(default_factory=Start)
    versions: VersionRange = SUPPORTED


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a node identifies itself with at a handshake, as caller and as callee.

    With `tls` the certificates of nodes name the cluster `cluster_name`.
    """

    identity: PeerIdentity
    secret: ClusterSecret
    tls: PortTls = PLAINTEXT
    cluster_name: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """What a caller's Hello reports: its id, its disk, and the addresses where it is reached.

    `proven`: the caller has proven that it knows the cluster's secret, or which node it is by its
    certificate.
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
    """Why a caller was refused, with a message for the caller's log."""

    reason: Refusal
    message: str


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a call is over. Two endings are equal if their code and reason are.

    `proven`: the callee has proven the reason with the cluster's secret, or the cluster has none.
    """

    code: str
    reason: str
    details: str = field(compare=False)
    proven: bool = field(default=True, compare=False)


def encode_hello(identity: PeerIdentity, to: int, last_log_index: int = 0) -> bytes:
    """The Hello of a call from `identity` to node `to`. Each has a new nonce."""
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
    """The caller that a Hello names, or why `identity` refuses it. Checks no disk and no proof."""
    try:
        hello = peer_pb2.Hello.FromString(data if isinstance(data, bytes) else b"")
    except DecodeError:
        return HandshakeRefused(Refusal.BAD_HELLO, "the call's metadata holds no Hello")
    own, sender = identity.node_id, hello.node_id
    if not (0 < sender <= ID_MAX and hello.nonce and hello.last_log_index <= ID_MAX):
        return HandshakeRefused(Refusal.BAD_HELLO, "the call's metadata names no caller or callee")
    for address in (hello.peer_address, hello.client_address):
        if len(address) > ADDRESS_MAX or not _ADDRESS.fullmatch(address):
            return HandshakeRefused(
                Refusal.BAD_HELLO, f"node {sender} gives {address[:ADDRESS_MAX]!r} as its address"
            )
    if hello.cluster_id != identity.cluster_id:
        return HandshakeRefused(
            Refusal.WRONG_CLUSTER,
            f"this is cluster {identity.cluster_id:016x}, the caller's is {hello.cluster_id:016x};"
            " look at cluster_name and at the addresses of the members",
        )
    if hello.to != own or sender == own:
        return HandshakeRefused(
            Refusal.WRONG_NODE, f"this is node {own}, node {sender} meant to reach node {hello.to}"
        )
    if 0 != hello.incarnation != identity.incarnation != 0:
        return HandshakeRefused(
            Refusal.WRONG_INCARNATION,
            f"node {own} belongs to the cluster that was founded as {identity.incarnation:016x},"
            f" node {sender} to {hello.incarnation:016x}: the same settings were used to found two"
            " clusters, or one began as the other lost its majority (`raftkv recover`), and a node"
            " of one takes no part in the other",
        )
    versions = VersionRange(hello.version_min, hello.version_max)
    if versions.minimum > identity.versions.maximum or versions.maximum < identity.versions.minimum:
        return HandshakeRefused(
            Refusal.WRONG_VERSION,
            f"node {own} can take part in cluster versions {identity.versions}, node {sender} in"
            f" {versions}: run programs that share one",
        )
    return Caller(
        sender,
        Address(hello.peer_address, hello.client_address),
        hello.incarnation,
        hello.disk_id,
        Start(hello.start_number, hello.start_id),
        versions,
        hello.last_log_index,
    )


def check_certificate(
    caller: Caller, certificate: Certificate, cluster_name: str
) -> Caller | HandshakeRefused:
    """The caller, or why its certificate, which is valid, does not let it act as that node."""
    if certificate.node(cluster_name) != caller.node_id:
        names = ", ".join(certificate.dns_names) or "none"
        return HandshakeRefused(
            Refusal.WRONG_CERTIFICATE,
            f"the caller claims to be node {caller.node_id}, but its certificate"
            f" ({certificate.common_name or 'without a common name'}; DNS names: {names}) does not"
            f" name {node_name(caller.node_id, cluster_name)}; look at peer_cert_file"
            " on that node",
        )
    return caller


async def ending_of(call: grpc.aio.Call, hello: bytes, secret: ClusterSecret) -> Ending:
    """How the call that began with `hello` ended. Cancels the call if it has not ended."""
    call.cancel()
    code = await call.code()
    trailing = dict(await call.trailing_metadata() or ())
    reason, proof = str(trailing.get(REASON_KEY, "")), trailing.get(PROOF_KEY, b"")
    proven = isinstance(proof, bytes) and secret.fits(proof, secret.of_refusal(hello, reason))
    return Ending(code.name, reason, await call.details() or "", proven)


Read: TypeAlias = Callable[[], Awaitable[object]]


class HandshakeFailed(Exception):
    """The callee is not the node that was called, or does not prove that it knows the secret."""

    def __init__(self, refused: HandshakeRefused) -> None:
        super().__init__(refused.message)
        self.refused = refused


async def prove(read: Read, hello: bytes, to: int, credentials: Credentials) -> bytes:
    """The caller's side: read the challenge that follows `hello`; returns the caller's proof.

    Raises `HandshakeFailed` if the callee is another node, has another secret, or another cluster
    version. If the call has ended without a challenge, the proof is empty.
    """
    identity, secret = credentials.identity, credentials.secret
    data = await read()
    if not isinstance(data, bytes):
        return b""
    challenge = _reply(data).challenge
    if challenge.node_id != to or not secret.fits(
        challenge.proof, secret.of_callee(hello, challenge.nonce)
    ):
        raise HandshakeFailed(
            HandshakeRefused(
                Refusal.WRONG_SECRET,
                f"what answers as node {to} has another cluster secret, or none; look at"
                " cluster_secret_file on both nodes",
            )
        )
    versions = VersionRange(challenge.version_min, challenge.version_max)
    if challenge.cluster_version not in identity.versions:
        raise HandshakeFailed(
            HandshakeRefused(
                Refusal.WRONG_VERSION,
                f"the cluster is at version {challenge.cluster_version} (node {to} can take part in"
                f" {versions}), this program can in {identity.versions}: run a program that can",
            )
        )
    return secret.of_caller(hello, challenge.nonce)


def is_admitted(data: object) -> bool:
    """Whether this message of the callee admits the caller."""
    return isinstance(data, bytes) and _reply(data).admitted


def founding_of(data: object) -> peer_pb2.Founding | None:
    """The callee's answer to a founder; None if the message is something else."""
    if not isinstance(data, bytes):
        return None
    reply = _reply(data)
    return reply.founding if reply.HasField("founding") else None


class IncomingHandshake:
    """The callee's side of one handshake."""

    def __init__(
        self, hello: object, credentials: Credentials, certificate: Certificate | None = None
    ) -> None:
        """`certificate` is the caller's; None if the connection is plaintext."""
        self.hello = hello if isinstance(hello, bytes) else b""
        self._identity = credentials.identity
        self._deny_list = credentials.tls.deny_list
        self._certificate = certificate
        self.caller = check_hello(hello, credentials.identity)
        if certificate is not None and isinstance(self.caller, Caller):
            self.caller = self.refusal_of_certificate() or check_certificate(
                self.caller, certificate, credentials.cluster_name
            )
        self._secret = ClusterSecret() if certificate is not None else credentials.secret
        self._nonce = new_nonce()

    def refusal_of_certificate(self) -> HandshakeRefused | None:
        """Why the caller's certificate is not accepted any more; None if it is."""
        if self._certificate is None or self._certificate.serial not in self._deny_list:
            return None
        return HandshakeRefused(
            Refusal.WRONG_CERTIFICATE,
            f"the caller's certificate (serial {self._certificate.serial:x}) is on the deny list",
        )

    def challenge(self, cluster_version: int) -> bytes:
        """The callee's first message."""
        identity = self._identity
        challenge = peer_pb2.Challenge(
            node_id=identity.node_id,
            nonce=self._nonce,
            proof=self._secret.of_callee(self.hello, self._nonce),
            version_min=identity.versions.minimum,
            version_max=identity.versions.maximum,
            cluster_version=cluster_version,
        )
        return peer_pb2.PeerReply(challenge=challenge).SerializeToString()

    def verify(self, proof: bytes) -> Caller | HandshakeRefused:
        """The caller, if its proof is right; else why it is refused."""
        if isinstance(self.caller, HandshakeRefused):
            return self.caller
        if not self._secret.fits(proof, self._secret.of_caller(self.hello, self._nonce)):
            return HandshakeRefused(
                Refusal.WRONG_SECRET,
                f"node {self.caller.node_id} has another cluster secret than node"
                f" {self._identity.node_id}, or none; look at cluster_secret_file on both nodes",
            )
        return replace(self.caller, proven=self._secret.known or self._certificate is not None)

    def proof_of_refusal(self, reason: str) -> bytes:
        """The proof that this refusal comes from a node that knows the secret."""
        return self._secret.of_refusal(self.hello, reason)


def _reply(data: bytes) -> peer_pb2.PeerReply:
    try:
        return peer_pb2.PeerReply.FromString(data)
    except DecodeError as error:
        raise HandshakeFailed(
            HandshakeRefused(Refusal.BAD_HELLO, f"what answers is no raftkv node: {error}")
        ) from error

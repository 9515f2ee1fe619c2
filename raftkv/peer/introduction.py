"""The first messages of a stream between two nodes, at both ends: challenge, proof, admission."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeAlias

from google.protobuf.message import DecodeError

from raftkv.peer.handshake import Caller, HandshakeRefused, PeerIdentity, Refusal, check_hello
from raftkv.peer.secret import ClusterSecret, new_nonce
from raftkv.rpc.v1 import peer_pb2
from raftkv.versions import VersionRange

Read: TypeAlias = Callable[[], Awaitable[object]]


class NotIntroduced(Exception):
    """What answers is not the node that was meant, or can't prove that it belongs."""

    def __init__(self, refused: HandshakeRefused) -> None:
        super().__init__(refused.message)
        self.refused = refused


async def prove(
    read: Read, hello: bytes, to: int, identity: PeerIdentity, secret: ClusterSecret
) -> bytes:
    """Read the challenge that follows `hello`, and return the proof that answers it.

    Raises `NotIntroduced` if the called node is not what it should be. Without a challenge, as the
    call has ended, the proof is empty.
    """
    data = await read()
    if not isinstance(data, bytes):
        return b""
    challenge = _reply(data).challenge
    if challenge.node_id != to or not secret.fits(
        challenge.proof, secret.of_callee(hello, challenge.nonce)
    ):
        raise NotIntroduced(
            HandshakeRefused(
                Refusal.WRONG_SECRET,
                f"what answers as node {to} has another cluster secret, or none; look at"
                " cluster_secret_file on both nodes",
            )
        )
    versions = VersionRange(challenge.version_min, challenge.version_max)
    if challenge.cluster_version not in identity.versions:
        raise NotIntroduced(
            HandshakeRefused(
                Refusal.WRONG_VERSION,
                f"the cluster is at version {challenge.cluster_version} (node {to} can take part in"
                f" {versions}), this program can in {identity.versions}: run a program that can",
            )
        )
    return secret.of_caller(hello, challenge.nonce)


def is_admitted(data: object) -> bool:
    """Whether this is the called node's word that the caller is admitted."""
    return isinstance(data, bytes) and _reply(data).admitted


def founding_of(data: object) -> peer_pb2.Founding | None:
    """What the called node answers to a founder; None if it said something else."""
    if not isinstance(data, bytes):
        return None
    reply = _reply(data)
    return reply.founding if reply.HasField("founding") else None


class Visitor:
    """One caller, at the called node."""

    def __init__(self, hello: object, identity: PeerIdentity, secret: ClusterSecret) -> None:
        self.hello = hello if isinstance(hello, bytes) else b""
        self.caller = check_hello(hello, identity)
        self._identity = identity
        self._secret = secret
        self._nonce = new_nonce()

    def challenge(self, cluster_version: int) -> bytes:
        """The first message to the caller."""
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
        """Who calls, now that it has sent its proof."""
        if isinstance(self.caller, HandshakeRefused):
            return self.caller
        if not self._secret.fits(proof, self._secret.of_caller(self.hello, self._nonce)):
            return HandshakeRefused(
                Refusal.WRONG_SECRET,
                f"node {self.caller.node_id} has another cluster secret than node"
                f" {self._identity.node_id}, or none; look at cluster_secret_file on both nodes",
            )
        return replace(self.caller, proven=self._secret.known)

    def proof_of_refusal(self, reason: str) -> bytes:
        """What makes a refusal believable to the caller."""
        return self._secret.of_refusal(self.hello, reason)


def _reply(data: bytes) -> peer_pb2.PeerReply:
    try:
        return peer_pb2.PeerReply.FromString(data)
    except DecodeError as error:
        raise NotIntroduced(
            HandshakeRefused(Refusal.BAD_HELLO, f"what answers is no raftkv node: {error}")
        ) from error

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

# A peer that has called has this long for its next word.
INTRODUCTION_TIMEOUT_S = 5.0
INTRODUCTIONS_MAX = 16
"""Callers that have yet to prove who they are; members are few, and need a moment each."""


class Introductions:
    """The callers whose next word is awaited. Who is one too many ends the oldest one's wait."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Timeout, None] = {}

    @asynccontextmanager
    async def wait(self) -> AsyncIterator[None]:
        """Raises `TimeoutError` in the body once the caller has had its time."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(INTRODUCTION_TIMEOUT_S) as own:
            self._waiting[own] = None
            if len(self._waiting) > INTRODUCTIONS_MAX:
                oldest = next(iter(self._waiting))
                del self._waiting[oldest]
                _expire(oldest, loop.time())
            try:
                yield
            finally:
                self._waiting.pop(own, None)


STREAMS_PER_CALLER_MAX = 2
"""Streams of frames of one node: the present one, and one that is not known to be broken yet."""

STREAMS_MAX = 128
"""The same of all nodes."""


class AdmittedStreams:
    """The streams of those that were admitted. One too many of a node ends its oldest."""

    def __init__(self) -> None:
        self._of_caller: dict[int, dict[asyncio.Timeout, None]] = {}
        self._count = 0

    @property
    def full(self) -> bool:
        return self._count >= STREAMS_MAX

    @asynccontextmanager
    async def place(self, node_id: int) -> AsyncIterator[None]:
        """Raises `TimeoutError` in the body when newer streams of this node take its place."""
        loop = asyncio.get_running_loop()
        streams = self._of_caller.setdefault(node_id, {})
        async with asyncio.timeout(None) as own:
            streams[own] = None
            self._count += 1
            if len(streams) > STREAMS_PER_CALLER_MAX:
                # Out of the list at once: the next one may come before this one has ended.
                oldest = next(iter(streams))
                del streams[oldest]
                _expire(oldest, loop.time())
            try:
                yield
            finally:
                streams.pop(own, None)
                self._count -= 1
                if not streams and self._of_caller.get(node_id) is streams:
                    del self._of_caller[node_id]


def _expire(timeout: asyncio.Timeout, now: float) -> None:
    """End its block with `TimeoutError`, unless its own time is up: then that is under way."""
    if not timeout.expired():
        timeout.reschedule(now)


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

"""Bounds."""


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


"""How much work is let in. Knows counts and bytes, nothing about requests or gRPC."""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from weakref import WeakValueDictionary

from raftkv.errors import Overloaded, ShuttingDown

# Long enough for a full node to answer a few hundred requests; clients add jitter of their own.
RETRY_AFTER_S = 0.05


class Admission:
    """Counts what is under way on this node and refuses at once what would pass a bound.

    A client may have no more under way than is left free (a dynamic threshold, as Choudhury and
    Hahne have it for switches): alone half of a bound, and the next one half of what is left.
    """

    def __init__(self, *, requests_max: int, requests_per_client_max: int, bytes_max: int) -> None:
        self._requests_max = requests_max
        self._requests_per_client_max = requests_per_client_max
        self._bytes_max = bytes_max
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.requests = 0
        self.bytes = 0
        self._shares: WeakValueDictionary[str, ClientShare] = WeakValueDictionary()

    def client(self, peer: str) -> ClientShare:
        """The share of the client behind a connection, `peer` as gRPC names it.

        It lasts as long as somebody holds it, so for as long as a stream or call does.
        """
        share = self._shares.get(peer)
        if share is None:
            share = self._shares[peer] = ClientShare(self, _number_of(peer))
        return share

    def close(self) -> None:
        """Let nothing in any more; what is under way goes on."""
        self._closed = True

    @property
    def closed(self) -> bool:
        return self._closed

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        await self._idle.wait()

    def enter(self, share: ClientShare, size_bytes: int) -> None:
        """Count a request in. Raises `Overloaded` or `ShuttingDown`, and then counts nothing."""
        if self._closed:
            raise ShuttingDown("this node is stopping; ask another one")
        if share.requests >= self._requests_per_client_max:
            raise _overloaded("requests in flight of this client", self._requests_per_client_max)
        free_requests, free_bytes = self._requests_max - self.requests, self._bytes_max - self.bytes
        if free_requests <= 0:
            raise _overloaded("requests in flight on this node", self._requests_max)
        if self.requests and size_bytes > free_bytes:
            raise _overloaded("bytes in flight on this node", self._bytes_max)
        if share.requests > free_requests:
            raise _overloaded("requests in flight of this client", share.requests)
        if share.requests and share.bytes + size_bytes > free_bytes:
            raise _overloaded("bytes in flight of this client", share.bytes)
        share.requests += 1
        share.bytes += size_bytes
        self.requests += 1
        self.bytes += size_bytes
        self._idle.clear()

    def leave(self, share: ClientShare, size_bytes: int) -> None:
        """Count a request out."""
        share.requests -= 1
        share.bytes -= size_bytes
        self.requests -= 1
        self.bytes -= size_bytes
        if not self.requests:
            self._idle.set()


class ClientShare:
    """What one client has under way. `number` tells it from others: two may share one by chance."""

    __slots__ = ("__weakref__", "_admission", "bytes", "number", "requests")

    def __init__(self, admission: Admission, number: int) -> None:
        self._admission = admission
        self.number = number
        self.requests = 0
        self.bytes = 0

    def enter(self, size_bytes: int) -> None:
        """Count a request in. Raises `Overloaded` or `ShuttingDown`, and then counts nothing."""
        self._admission.enter(self, size_bytes)

    def leave(self, size_bytes: int) -> None:
        """Count a request out, with the size that it came in with."""
        self._admission.leave(self, size_bytes)


def _number_of(peer: str) -> int:
    # By its name, not by counting: when a share is forgotten must not decide who is whose rival.
    return 1 + int.from_bytes(blake2b(peer.encode(), digest_size=4).digest())


def _overloaded(what: str, bound: int) -> Overloaded:
    return Overloaded(
        f"{what}: the bound of {bound} is reached; wait and try again",
        retry_after_s=RETRY_AFTER_S,
        bound=bound,
    )

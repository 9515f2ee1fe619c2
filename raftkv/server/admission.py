"""Admission control: bounds on the requests and bytes in flight, per client and per node."""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from weakref import WeakValueDictionary

from raftkv.config import Settings
from raftkv.errors import Overloaded, ShuttingDown
from raftkv.metrics import table
from raftkv.metrics.samples import SampleSet
from raftkv.server.observability.request_counts import RequestCounts

# Long enough for a full node to answer a few hundred requests; clients add jitter of their own.
RETRY_AFTER_S = 0.05


class Admission:
    """Counts requests in flight on this node, and refuses a request that would exceed a bound.

    A client may have no more in flight than is left free (the dynamic threshold of Choudhury and
    Hahne for switches): a single client half of a bound, a second one half of the rest.
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
        self.counts = RequestCounts()
        """The requests that have ended."""

    def apply(self, settings: Settings) -> None:
        """Use the bound per client of these settings for later requests."""
        self._requests_per_client_max = settings.requests_per_client_max

    def client(self, peer: str) -> ClientShare:
        """The share of the client of a connection, with `peer` as gRPC names it.

        It exists as long as it is referenced, that is, as long as a stream or call of the client.
        """
        share = self._shares.get(peer)
        if share is None:
            share = self._shares[peer] = ClientShare(self, _number_of(peer))
        return share

    def close(self) -> None:
        """Refuse new requests; requests in flight continue."""
        self._closed = True

    @property
    def closed(self) -> bool:
        return self._closed

    async def idle(self) -> None:
        """Wait until no request is in flight."""
        await self._idle.wait()

    def sample(self, samples: SampleSet) -> None:
        samples.set(table.REQUESTS_IN_FLIGHT, self.requests)
        samples.set(table.REQUEST_BYTES_IN_FLIGHT, self.bytes)

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
    """A client's requests and bytes in flight. Two clients may have the same `number` by chance."""

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
        """Count a request out, with the same size as in `enter`."""
        self._admission.leave(self, size_bytes)


def _number_of(peer: str) -> int:
    # A hash of the name, not a counter: the number must not depend on when a share is collected.
    return 1 + int.from_bytes(blake2b(peer.encode(), digest_size=4).digest())


def _overloaded(what: str, bound: int) -> Overloaded:
    return Overloaded(
        f"{what}: the bound of {bound} is reached; wait and try again",
        retry_after_s=RETRY_AFTER_S,
        bound=bound,
    )

"""How much work is let in. Knows counts and bytes, nothing about requests or gRPC."""

from __future__ import annotations

import asyncio

from raftkv.errors import Overloaded, ShuttingDown

# Long enough for a full node to answer a few hundred requests; clients add jitter of their own.
RETRY_AFTER_S = 0.05


class Admission:
    """Counts what is under way on this node and refuses at once what would pass a bound."""

    def __init__(self, *, requests_max: int, requests_per_client_max: int, bytes_max: int) -> None:
        self._requests_max = requests_max
        self._requests_per_client_max = requests_per_client_max
        self._bytes_max = bytes_max
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.requests = 0
        self.bytes = 0

    def client(self) -> ClientShare:
        """The share of one client, for as long as its stream or call lasts."""
        return ClientShare(self)

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
        if self.requests >= self._requests_max:
            raise _overloaded("requests in flight on this node", self._requests_max)
        if self.requests and self.bytes + size_bytes > self._bytes_max:
            raise _overloaded("bytes in flight on this node", self._bytes_max)
        share.requests += 1
        self.requests += 1
        self.bytes += size_bytes
        self._idle.clear()

    def leave(self, share: ClientShare, size_bytes: int) -> None:
        """Count a request out."""
        share.requests -= 1
        self.requests -= 1
        self.bytes -= size_bytes
        if not self.requests:
            self._idle.set()


class ClientShare:
    """What one client has under way."""

    __slots__ = ("_admission", "requests")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.requests = 0

    def enter(self, size_bytes: int) -> None:
        """Count a request in. Raises `Overloaded` or `ShuttingDown`, and then counts nothing."""
        self._admission.enter(self, size_bytes)

    def leave(self, size_bytes: int) -> None:
        """Count a request out, with the size that it came in with."""
        self._admission.leave(self, size_bytes)


def _overloaded(what: str, bound: int) -> Overloaded:
    return Overloaded(
        f"{what}: the bound of {bound} is reached; wait and try again",
        retry_after_s=RETRY_AFTER_S,
        bound=bound,
    )

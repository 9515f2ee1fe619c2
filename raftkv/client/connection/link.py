"""The port to one endpoint, implemented by gRPC and by the simulated network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from raftkv.errors import RaftkvError

PIPELINE = "/raftkv.rpc.v1.Pipeline/Open"
WATCH = "/raftkv.rpc.v1.Watch/Open"
BACKUP = "/raftkv.rpc.v1.Maintenance/Backup"
AUTH_SERVICE = "/raftkv.rpc.v1.Auth/"


class LinkStream(Protocol):
    """One open bidirectional call."""

    def send(self, message: bytes) -> None:
        """Queue a request. Never blocks; order is kept. After the end it does nothing."""

    def close(self) -> None:
        """End it now: no callback follows; what was sent may or may not have arrived."""


class Link(Protocol):
    """The connection to one endpoint. Connects at the first use, and again after a failure."""

    def open(
        self,
        on_message: Callable[[bytes], None],
        on_end: Callable[[RaftkvError], None],
        method: str = PIPELINE,
        token: str = "",
    ) -> LinkStream:
        """Open a stream of `PIPELINE`, `WATCH` or `BACKUP`, authenticated with `token`; empty: not.

        Both callbacks run on the loop, never from inside `open` or `send`.

        `on_end` is called once, when the stream is over for any reason but `close`: with
        `ConnectionFailed` if certainly nothing of what was given to `send` left, with
        `Unauthenticated` if the node refuses the token, the node's error if it ends a `BACKUP`,
        else with `OutcomeUnknown`.
        """

    async def call(self, method: str, request: bytes, timeout_s: float, token: str = "") -> bytes:
        """One unary call, `method` as in "/raftkv.rpc.v1.Cluster/Status", with `token` if any.

        Raises the server's typed error, with its header among the facts (`identity_facts`);
        `ConnectionFailed` if the request was certainly not sent;
        `OutcomeUnknown` if it was and no answer came within `timeout_s`.
        """

    async def close(self) -> None:
        """Close the connection."""


Links = Callable[[str], Link]
"""Makes the link to an address "host:port"."""

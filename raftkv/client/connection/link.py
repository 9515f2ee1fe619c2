"""The port to one endpoint. What a network, or a simulated one, has to offer the client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from raftkv.errors import RaftkvError

PIPELINE = "/raftkv.rpc.v1.Pipeline/Open"
WATCH = "/raftkv.rpc.v1.Watch/Open"


class LinkStream(Protocol):
    """One open call that carries messages both ways."""

    def send(self, message: bytes) -> None:
        """Queue a request. Never blocks; order is kept. Nothing happens after the end."""

    def close(self) -> None:
        """End it now: no event follows, what was sent may or may not have arrived."""


class Link(Protocol):
    """The way to one endpoint. Connects when it is first used, and again after it broke."""

    def open(
        self,
        on_message: Callable[[bytes], None],
        on_end: Callable[[RaftkvError], None],
        method: str = PIPELINE,
    ) -> LinkStream:
        """Open a stream of `PIPELINE` or `WATCH`.

        Both callbacks run on the loop, never from inside `open` or `send`.

        `on_end` is called once, when the stream is over for any reason but `close`: with
        `ConnectionFailed` if certainly nothing of what was given to `send` left, else with
        `OutcomeUnknown`.
        """

    async def call(self, method: str, request: bytes, timeout_s: float) -> bytes:
        """One unary call, `method` as in "/raftkv.rpc.v1.Cluster/Status".

        Raises the server's typed error, with its header among the facts (`identity_facts`);
        `ConnectionFailed` if the request was certainly not sent;
        `OutcomeUnknown` if it was and no answer came within `timeout_s`.
        """

    async def close(self) -> None:
        """Let the connection go."""


Links = Callable[[str], Link]
"""Makes the link to an address "host:port"."""

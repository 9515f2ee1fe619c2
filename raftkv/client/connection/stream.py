"""One open stream to a node, and the batches in flight on it.

The first request is a greeting: an empty read, whose reply has the node's cluster in its header. No
batch is sent before that reply: a session and its sequences are valid in one history alone, and
another cluster may well have a session of the same id.

The stream is authenticated with the token that it was opened with, until it gets a newer one.
"""

from __future__ import annotations

from collections.abc import Callable

from raftkv.client.connection.batches import Batch
from raftkv.client.connection.endpoints import Endpoint
from raftkv.client.connection.link import LinkStream
from raftkv.errors import RaftkvError
from raftkv.rpc.v1 import api_pb2

GREETING = 0
"""The number of the greeting; batches are numbered from 1."""

_GREETING = api_pb2.PipelineRequest(
    number=GREETING, reads=api_pb2.ReadBatch(level=api_pb2.READ_LEVEL_STALE)
).SerializeToString()


class PipelineConnection:
    """A stream to an endpoint with the batches on it that have no answer yet."""

    __slots__ = (
        "_number",
        "_stream",
        "_token_number",
        "_waiting_since",
        "endpoint",
        "greeted",
        "in_flight",
        "token",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        token: str,
        now: float,
        on_message: Callable[[PipelineConnection, bytes], None],
        on_end: Callable[[PipelineConnection, RaftkvError], None],
    ) -> None:
        self.endpoint = endpoint
        self.token = token
        self.in_flight: dict[int, Batch] = {}  # by number, in the order in which they were sent
        self._number = 0
        self._token_number = -1  # of the request with the last token
        self._waiting_since: float | None = now
        self.greeted = False  # it belongs to the client's cluster, so batches may be sent
        self._stream: LinkStream | None = endpoint.link.open(
            lambda message: on_message(self, message),
            lambda error: on_end(self, error),
            token=token,
        )
        self._stream.send(_GREETING)

    @property
    def closed(self) -> bool:
        return self._stream is None

    def send(self, batch: Batch, now: float) -> None:
        """Send the batch; it is in flight from here on."""
        self._number += 1
        self.in_flight[self._number] = batch
        batch.sent_at = now
        batch.token = self.token
        batch.queue.in_flight += 1
        if self._waiting_since is None:
            self._waiting_since = now
        if self._stream is not None:
            timeout_ms = max(1, int((batch.deadline - now) * 1000))
            self._stream.send(batch.queue.envelope(self._number, timeout_ms, batch.payload))

    def authenticate(self, token: str) -> None:
        """From here on the stream is authenticated with this token, a newer one of its user."""
        if self._stream is None or token == self.token:
            return
        self._number += 1
        self._token_number = self._number
        self.token = token
        request = api_pb2.PipelineRequest(number=self._number, token=token)
        self._stream.send(request.SerializeToString())

    def is_of_token(self, number: int) -> bool:
        """Whether a reply of this number answers the request with the present token."""
        return number == self._token_number

    def replied(self, number: int, now: float) -> Batch | None:
        """A reply has arrived: take its batch out; None if the batch had expired before."""
        batch = self.take(number)
        self._waiting_since = now if self.in_flight else None
        return batch

    def take(self, number: int) -> Batch | None:
        """Take a batch out: no reply to it is awaited any longer."""
        batch = self.in_flight.pop(number, None)
        if batch is not None:
            batch.queue.in_flight -= 1
        return batch

    def silent_s(self, now: float) -> float:
        """For how long the endpoint has owed a reply and sent nothing.

        A batch that has expired still counts: its missing answer is a sign of a failure as well.
        """
        return 0.0 if self._waiting_since is None else now - self._waiting_since

    @property
    def waiting(self) -> bool:
        """Whether the endpoint owes a reply."""
        return self._waiting_since is not None

    def close(self) -> None:
        """End the stream; its batches stay in `in_flight`, to be taken out."""
        self._waiting_since = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None

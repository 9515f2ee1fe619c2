"""The client's session: its sequence numbers, and the lease that it is in the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from raftkv.client.model.results import LeaseResult, lease_result
from raftkv.client.settings import CLOSE_GRACE_S, ClientSettings
from raftkv.errors import LeaseNotFound, PermissionDenied, Unauthenticated, WrongCluster
from raftkv.rpc.v1 import kv_pb2

if TYPE_CHECKING:
    from raftkv.client.connection.pipeline import Pipeline


class Session:
    """Numbers the batches of a session, so that the store runs each (session, sequence) once.

    A session is a lease. A sequence is settled when its answer has arrived, and also when its batch
    will not be sent again: the store then drops its result, and refuses a copy that arrives late.
    """

    __slots__ = ("_settled", "acknowledged", "lease", "sequence")

    def __init__(self, lease: int) -> None:
        self.lease = lease
        self.sequence = 0  # the last one given out
        self.acknowledged = 0  # all sequences up to this are settled
        self._settled: set[int] = set()  # those beyond it

    def next_sequence(self) -> int:
        """A sequence that was never used."""
        self.sequence += 1
        return self.sequence

    def settle(self, sequence: int) -> None:
        """This sequence will not be sent again."""
        self._settled.add(sequence)
        while self.acknowledged + 1 in self._settled:
            self.acknowledged += 1
            self._settled.remove(self.acknowledged)


class SessionKeeper:
    """Opens a session when a write needs one, renews its lease, and revokes it at the end.

    Its own commands run outside any session: a grant that was run twice leaves a lease that
    expires, and a repeated renewal or revocation does no harm.
    """

    def __init__(
        self, pipeline: Pipeline, settings: ClientSettings, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._pipeline = pipeline
        self._loop = loop
        self._ttl_ms = settings.session_ttl_ms
        # A third of the TTL leaves time for two renewals that fail.
        self._renewal_s = settings.session_ttl_ms / 3000
        self._pending: asyncio.Future[LeaseResult] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        pipeline.on_session_needed = self.open

    def open(self) -> None:
        """Ask for a session, unless that is under way."""
        if self._pending is None and not self._closed:
            grant = kv_pb2.Command(lease_grant=kv_pb2.LeaseGrant(ttl_ms=self._ttl_ms))
            self._pending = self._submit(grant, self._renewal_s)
            self._pending.add_done_callback(self._opened)

    def _opened(self, pending: asyncio.Future[LeaseResult]) -> None:
        self._pending = None
        if pending.cancelled():
            return
        # Retrieved even if the keeper is closed: the loop would report an error that is not.
        error = pending.exception()
        if error is None:
            self._pipeline.writes.session = Session(pending.result().lease)
        if self._closed:
            return
        if error is None:
            self._renew_in(self._renewal_s)
        elif isinstance(error, Unauthenticated | PermissionDenied):
            self._pipeline.fail_writes(error)
        self._pipeline.wake()  # sends the queued writes, or asks for a session once more

    def _renew_in(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, self._renew)

    def _renew(self) -> None:
        session = self._pipeline.writes.session
        if session is None or self._closed:
            return
        renewal = kv_pb2.Command(lease_renew=kv_pb2.LeaseRenew(lease=session.lease))
        pending = self._submit(renewal, self._renewal_s)
        pending.add_done_callback(lambda done: self._renewed(session, done))

    def _renewed(self, session: Session, done: asyncio.Future[LeaseResult]) -> None:
        if done.cancelled():
            return
        error = done.exception()  # retrieved, as above
        if self._closed or self._pipeline.writes.session is not session:
            return
        if isinstance(error, LeaseNotFound | PermissionDenied):  # or it is another user's
            self._pipeline.writes.session = None
            self._pipeline.wake()
        else:
            # A renewal that failed has waited for its whole time, unless it is refused at once.
            waited = error is not None and not isinstance(error, WrongCluster | Unauthenticated)
            self._renew_in(0.0 if waited else self._renewal_s)

    async def close(self) -> None:
        """Revoke the session, so that the store ends it at once. If that fails, its TTL ends it.

        Takes no longer than `CLOSE_GRACE_S`, also if one is being asked for.
        """
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        until = self._loop.time() + CLOSE_GRACE_S
        if self._pending is not None:
            await asyncio.wait([self._pending], timeout=CLOSE_GRACE_S)
        session, left_s = self._pipeline.writes.session, until - self._loop.time()
        if session is not None and left_s > 0:
            revoke = kv_pb2.Command(lease_revoke=kv_pb2.LeaseRevoke(lease=session.lease))
            pending = self._submit(revoke, left_s)
            pending.add_done_callback(lambda done: done.exception())
            await asyncio.wait([pending], timeout=left_s)

    def _submit(self, command: kv_pb2.Command, timeout_s: float) -> asyncio.Future[LeaseResult]:
        piece = kv_pb2.CommandBatch(commands=[command]).SerializeToString()
        return self._pipeline.submit(self._pipeline.control, piece, lease_result, timeout_s)

"""Opens the client's session when a write needs one, and keeps its lease alive."""

from __future__ import annotations

import asyncio

from raftkv.client.connection.pipeline import Pipeline
from raftkv.client.connection.session import Session
from raftkv.client.coordination.lease import CLOSE_GRACE_S
from raftkv.client.model.results import LeaseResult, lease_result
from raftkv.client.settings import ClientSettings
from raftkv.errors import LeaseNotFound, WrongCluster
from raftkv.rpc.v1 import kv_pb2


class SessionKeeper:
    """Gives the pipeline's writes a session for as long as the client lives.

    Its own commands run outside any session: a grant that was run twice leaves a lease that
    expires, a renewal or revocation does no harm.
    """

    def __init__(
        self, pipeline: Pipeline, settings: ClientSettings, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._pipeline = pipeline
        self._loop = loop
        self._ttl_ms = settings.session_ttl_ms
        # A third of the TTL leaves time for two renewals to go wrong.
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
        error = pending.exception()  # taken even if closed: the loop reports what nobody took
        if error is None:
            self._pipeline.writes.session = Session(pending.result().lease)
        if self._closed:
            return
        if error is None:
            self._renew_in(self._renewal_s)
        self._pipeline.wake()  # the waiting writes leave, or ask for a session once more

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
        error = done.exception()  # as above
        if self._closed or self._pipeline.writes.session is not session:
            return
        if isinstance(error, LeaseNotFound):
            self._pipeline.writes.session = None
            self._pipeline.wake()
        else:
            # A renewal that failed has waited for its whole time, unless the cluster is gone.
            waited = error is not None and not isinstance(error, WrongCluster)
            self._renew_in(0.0 if waited else self._renewal_s)

    async def close(self) -> None:
        """Revoke the session, so that the store forgets it at once. Failure only costs the TTL.

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

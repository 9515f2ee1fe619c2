"""Makes, connects and closes the parts of a client, and runs commands on them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from raftkv.arguments import to_timeout
from raftkv.backoff import Backoff
from raftkv.client.authentication import Authentication
from raftkv.client.connection.endpoints import Endpoint, Endpoints, parse_endpoints
from raftkv.client.connection.link import Links
from raftkv.client.connection.pipeline import Pipeline
from raftkv.client.connection.session import SessionKeeper
from raftkv.client.connection.unary import (
    LEFT_S_MIN,
    STATUS_TIMEOUT_S,
    HeadedReplyT,
    UnaryRequest,
    UnaryRequests,
)
from raftkv.client.coordination.lease import GrantResult, KeptLeases
from raftkv.client.coordination.queue import LockQueues
from raftkv.client.credentials import UserCredentials
from raftkv.client.log import log
from raftkv.client.requests import NO_OPTIONS, WriteOptions, command_piece
from raftkv.client.settings import ClientSettings
from raftkv.client.watch.connection import WatchConnection
from raftkv.errors import ConnectionFailed, DeadlineExceeded, Unauthenticated, WrongCluster
from raftkv.rpc.v1 import kv_pb2

T = TypeVar("T")


class NodeCall(Protocol):
    """Calls a unary method of any node."""

    async def __call__(
        self, method: str, request: UnaryRequest, reply_type: type[HeadedReplyT], /
    ) -> HeadedReplyT: ...


class Core:
    """The parts of a client, and what its methods have in common. Belongs to one event loop."""

    def __init__(
        self,
        endpoints: str | Sequence[str],
        timeout: float,
        settings: ClientSettings,
        links: Links,
        rng: random.Random,
        credentials: UserCredentials,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._rng = rng
        self._timeout_s = min(to_timeout(timeout), settings.timeout_s_max)
        # The wait for answers where there is no timeout of the caller, and no second attempt.
        self._wait_s_max = self._timeout_s or settings.silence_s_max
        self._endpoints = Endpoints(parse_endpoints(endpoints), links, settings, rng)
        self._authentication = Authentication(credentials, settings, rng, self._loop)
        self._pipeline = Pipeline(self._endpoints, settings, rng, self._loop, self._authentication)
        self._session_keeper = SessionKeeper(self._pipeline, settings, self._loop)
        self._unary = UnaryRequests(
            self._endpoints, settings, rng, self._loop, self._authentication
        )
        self._authentication.authenticate = self._unary.authenticate
        self._leases = KeptLeases(self._pipeline, self._loop)
        self._watches = WatchConnection(
            self._endpoints, settings, rng, self._loop, self._authentication
        )
        self._queues = LockQueues(
            self._pipeline, self._unary, self._leases, self._watches, settings, self._wait_s_max
        )
        # No part refers to the client itself, so a client that its user has dropped is collected.
        self._pipeline.on_leader_search_due = partial(
            self._unary.search_leader, self._pipeline.move_to_leader
        )
        self._endpoints.binding.on_gone = partial(
            _cluster_gone, self._leases, self._watches, self._pipeline
        )
        self._queues.client = self  # except the queues: a lock keeps its client alive
        self._closing = False

    async def _connect(self) -> None:
        """Wait until a node answers, and log in. With timeout 0 each node is asked once.

        Raises `ConnectionFailed` if none answers in time, `WrongCluster` if the nodes that answer
        belong to two clusters, `Unauthenticated` if they refuse the credentials.
        """
        once = not self._timeout_s
        deadline = self._loop.time() + self._wait_s_max
        backoff = Backoff(self._rng, self._settings.backoff_s_min, self._settings.backoff_s_max)
        if self._authentication.logs_in:  # first, as the cluster may refuse all else before
            try:
                await self._authentication.wait(self._wait_s_max)
            except DeadlineExceeded:
                if any(self._endpoints.binding.identity):  # a node has answered
                    raise
        while True:
            left_s = deadline - self._loop.time()
            ask_s = left_s if once else max(LEFT_S_MIN, min(STATUS_TIMEOUT_S, left_s))
            errors = await self._unary.find_leader(ask_s)
            if (mixed := self._endpoints.binding.two_clusters()) is not None:
                raise mixed
            served = len(errors) < len(self._endpoints.given)
            refusals = [each for each in errors if isinstance(each, Unauthenticated)]
            if served or refusals:
                self._endpoints.binding.on_event = partial(_log_event, self._endpoints)
                if not served:
                    raise refusals[0]
                return
            pause_s = backoff.next_s()
            if once or self._loop.time() + pause_s >= deadline:
                addresses = ", ".join(endpoint.address for endpoint in self._endpoints.given)
                how_long = "" if once else f" within {self._timeout_s} s"
                raise ConnectionFailed(
                    f"no node answers at {addresses}{how_long};"
                    f" is the cluster running? ({errors[0]})"
                )
            await asyncio.sleep(pause_s)

    async def close(self) -> None:
        """Wait for the calls under way, at most for the default timeout, and close the session.

        Calls that are still waiting then fail. The session and the leases of locks are revoked
        within a second; if no majority answers, their TTL ends them. Calling it again does nothing,
        nor does it in a child that was forked from the client's process. Raises `WrongLoop`.
        """
        if self._closing or self._pipeline.home.inherited:
            return
        self._pipeline.home.check()
        self._closing = True
        self._watches.close()
        try:
            waiting = self._pipeline.unfinished()
            if waiting:
                await asyncio.wait(waiting, timeout=self._wait_s_max)
            self._leases.mark_all_lost("the client was closed")
            await asyncio.gather(self._leases.wait_revoked(), self._session_keeper.close())
        finally:
            # The holders must stop, also if the above was cancelled.
            self._leases.mark_all_lost("the client was closed")
            await self._queues.close()
            self._pipeline.close()
            await self._authentication.close()
            await self._unary.close()
            await self._endpoints.close()

    async def _run(
        self,
        command: kv_pb2.Command,
        decode: Callable[[kv_pb2.Result], T],
        timeout: float | None,
        options: WriteOptions = NO_OPTIONS,
    ) -> T:
        piece = command_piece(self._settings, command, options)
        return await self._submit(piece, decode, timeout)

    async def _run_grant(
        self,
        command: kv_pb2.Command,
        decode: Callable[[kv_pb2.Result], GrantResult],
        timeout: float | None,
        options: WriteOptions = NO_OPTIONS,
    ) -> GrantResult:
        """As `_run`, of a command that grants a lease: revoked if the caller is cancelled."""
        piece = command_piece(self._settings, command, options)
        return await self._leases.revoked_if_cancelled(self._submit(piece, decode, timeout))

    def _submit(
        self, piece: bytes, decode: Callable[[kv_pb2.Result], T], timeout: float | None
    ) -> asyncio.Future[T]:
        return self._pipeline.submit(self._pipeline.writes, piece, decode, self._timeout(timeout))

    def _asking(self, timeout: float | None) -> NodeCall:
        """A function for unary calls, all of them within one timeout."""
        left_s = self._countdown(self._timeout(timeout))

        async def ask(
            method: str, request: UnaryRequest, reply_type: type[HeadedReplyT]
        ) -> HeadedReplyT:
            return await self._unary.call(method, request, reply_type, left_s())

        return ask

    def _timeout(self, timeout: float | None) -> float:
        """The caller's timeout in seconds, or the default; never more than the maximum."""
        if timeout is None:
            return self._timeout_s
        return min(to_timeout(timeout), self._settings.timeout_s_max)

    def _countdown(self, timeout_s: float) -> Callable[[], float]:
        """A function for the time that is left for the next part of a call.

        Always 0 for one attempt, which tries each part once.
        """
        if not timeout_s:
            return lambda: 0.0
        deadline = self._loop.time() + timeout_s
        return lambda: max(LEFT_S_MIN, deadline - self._loop.time())


def _log_event(endpoints: Endpoints, event: str, endpoint: Endpoint) -> None:
    log(
        event,
        endpoint=endpoint.address,
        answers_for=str(endpoint.answers_for),
        client_belongs_to=str(endpoints.binding.identity),
    )


def _cluster_gone(
    leases: KeptLeases, watches: WatchConnection, pipeline: Pipeline, error: WrongCluster
) -> None:
    """No endpoint of the own cluster is left: leases, locks and watches on it are lost."""
    leases.mark_all_lost(error.message)
    watches.fail_all(error)
    pipeline.wake()

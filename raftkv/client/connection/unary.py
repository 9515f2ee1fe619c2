"""Unary calls to the cluster's nodes, and the search for its leader."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, Self, TypeVar

from google.protobuf.message import DecodeError

from raftkv.backoff import Backoff
from raftkv.client.authentication import Authentication
from raftkv.client.connection.cluster_identity import take_identity
from raftkv.client.connection.endpoints import Endpoint, Endpoints, EndpointSelector
from raftkv.client.connection.home import Home
from raftkv.client.connection.link import AUTH_SERVICE
from raftkv.client.model.status import NodeStatus, Role, status_of
from raftkv.client.settings import ClientSettings
from raftkv.errors import (
    ConnectionFailed,
    DeadlineExceeded,
    NotLeader,
    NotServing,
    Outcome,
    OutcomeUnknown,
    PermissionDenied,
    RaftkvError,
    ShuttingDown,
    Unauthenticated,
    Unavailable,
    WrongCluster,
)
from raftkv.rpc.v1 import api_pb2

STATUS = "/raftkv.rpc.v1.Cluster/Status"
AUTHENTICATE = AUTH_SERVICE + "Authenticate"
STATUS_TIMEOUT_S = 1.0
LEFT_S_MIN = 0.001  # for a request that is still sent when the time is up
# After these a single attempt goes on to the next node; each node is tried once.
ASK_ANOTHER = (ConnectionFailed, NotLeader, NotServing, ShuttingDown)
SEARCHES_MAX = 8  # for one leader; the next new term starts another


class UnaryRequest(Protocol):
    """A protobuf message, to be sent."""

    def SerializeToString(self) -> bytes: ...  # noqa: N802 - protobuf's name


def _nothing() -> None:
    """No callback is set."""


class _HeadedReply(Protocol):
    @classmethod
    def FromString(cls, data: bytes, /) -> Self: ...  # noqa: N802 - protobuf's name
    @property
    def header(self) -> api_pb2.ReplyHeader: ...


HeadedReplyT = TypeVar("HeadedReplyT", bound=_HeadedReply)


class UnaryRequests:
    """Calls any node or a given one, and retries what is safe to retry until the deadline.

    A timeout of 0 stands for one attempt, as in the pipeline: no retry once a node has taken the
    call, and its answer is awaited for `silence_s_max`.

    A reply of another cluster's node is not used. Raises `WrongCluster` once only such nodes
    answer, or if the given one is such a node.

    Calls wait until the client is logged in, except those for a status. A call whose token a node
    refuses is sent once more, with a new one.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        settings: ClientSettings,
        rng: random.Random,
        loop: asyncio.AbstractEventLoop,
        authentication: Authentication,
    ) -> None:
        self._endpoints = endpoints
        self._authentication = authentication
        self._settings = settings
        self._rng = rng
        self._loop = loop
        self._home = Home(loop)
        self._search: asyncio.Task[None] | None = None
        self.revision = 0  # the highest that an answer to `call` has shown

    async def call(
        self,
        method: str,
        request: UnaryRequest,
        reply_type: type[HeadedReplyT],
        timeout_s: float,
        *,
        changes: bool = False,
        logs_in: bool = False,
    ) -> HeadedReplyT:
        """Call the best node, then the others.

        A call that `changes` something is never repeated once it may have had its effect: it raises
        `OutcomeUnknown`. Such a call, and one that `logs_in` and so has a password and no token, is
        sent only to a node whose status has just shown that it belongs to the client's cluster. The
        first log-in goes to any of the endpoints: the client has no cluster yet.
        """
        self._home.check()
        once = not timeout_s
        deadline = self._loop.time() + (timeout_s or self._settings.silence_s_max)
        selector = EndpointSelector(self._endpoints, self._settings, self._rng)
        data = request.SerializeToString()
        refusal = ""  # the last answer of a node: it explains more than the silence of others
        while True:
            now = self._loop.time()
            if (gone := self._endpoints.binding.gone(now)) is not None:
                raise gone
            known = len(self._endpoints)
            token = "" if logs_in else await self._authentication.wait(deadline - now)
            now = self._loop.time()
            endpoint = selector.choose_any(now)
            try:
                if changes or (logs_in and any(self._endpoints.binding.identity)):
                    await self._identify(endpoint, min(STATUS_TIMEOUT_S, deadline - now))
                left_s = deadline - self._loop.time()
                reply = await self._ask(endpoint, method, data, reply_type, left_s, token)
                self._authentication.accepted(token)
                self.revision = max(self.revision, reply.header.revision)
                return reply
            except WrongCluster as foreign:
                failure: RaftkvError = ConnectionFailed(foreign.message)
            except Unauthenticated as error:
                if logs_in or not self._authentication.refused(token, error):
                    raise
                selector.avoid(endpoint)
                continue
            except RaftkvError as error:
                failure = error
            if failure.outcome is Outcome.NOT_APPLIED:
                raise failure
            if changes and failure.outcome is Outcome.MAYBE_APPLIED:
                raise failure
            self._follow_hint(failure)
            if not isinstance(failure, ConnectionFailed | OutcomeUnknown):
                refusal = str(failure)
            unreachable = isinstance(failure, ConnectionFailed)
            all_failed = selector.failed(endpoint, unreachable=unreachable)
            pause_s = max(selector.backoff.next_s() if all_failed else 0.0, failure.retry_after_s)
            if once and not (isinstance(failure, ASK_ANOTHER) and selector.failures < known):
                raise failure if isinstance(failure, Unavailable) else _no_answer(failure)
            if self._loop.time() + pause_s >= deadline:
                if not refusal:
                    raise _no_answer(failure)
                raise DeadlineExceeded(refusal, retry_after_s=failure.retry_after_s)
            await asyncio.sleep(pause_s)

    def _follow_hint(self, failure: RaftkvError) -> None:
        """Note the leader that a refusal names, which may be a node that the user did not give.

        Nothing else searches for the leader as long as all calls are unary.
        """
        address = failure.facts.get("leader_address")
        if address and self._settings.follow_members:
            self._endpoints.leader = self._endpoints.get(address)

    async def ask(
        self,
        endpoint: Endpoint,
        method: str,
        request: UnaryRequest,
        reply_type: type[HeadedReplyT],
        timeout_s: float,
    ) -> HeadedReplyT:
        """Call this node and no other, once. Raises `ConnectionFailed` if it does not answer."""
        self._home.check()
        timeout_s = timeout_s or self._settings.silence_s_max
        data = request.SerializeToString()
        # It may change something: not before the node's cluster is known.
        await self._identify(endpoint, timeout_s)
        while True:
            token = await self._authentication.wait(timeout_s)
            try:
                reply = await self._ask_once(endpoint, method, data, reply_type, timeout_s, token)
            except Unauthenticated as error:
                if not self._authentication.refused(token, error):
                    raise
            else:
                self._authentication.accepted(token)
                return reply

    async def _ask_once(
        self, endpoint: Endpoint, method: str, data: bytes, reply_type: type[HeadedReplyT],
        timeout_s: float, token: str,
    ) -> HeadedReplyT:  # fmt: skip
        try:
            return await self._ask(endpoint, method, data, reply_type, timeout_s, token)
        except OutcomeUnknown as error:
            raise ConnectionFailed(f"{endpoint.address} does not answer: {error}") from None

    async def _identify(self, endpoint: Endpoint, timeout_s: float) -> None:
        """Ask the node which cluster it belongs to. Raises `WrongCluster` if that is another one.

        A node that refuses to give its status to this user has still said so.
        """
        with suppress(Unauthenticated, PermissionDenied):
            await self._status(endpoint, timeout_s)

    async def _ask(
        self, endpoint: Endpoint, method: str, data: bytes, reply_type: type[HeadedReplyT],
        timeout_s: float, token: str,
    ) -> HeadedReplyT:  # fmt: skip
        """One call. Raises `WrongCluster` if another cluster's node has answered."""
        binding, loop = self._endpoints.binding, self._loop
        try:
            answer = await endpoint.link.call(method, data, max(LEFT_S_MIN, timeout_s), token)
            reply = reply_type.FromString(answer)
            own = binding.answered(endpoint, reply.header, loop.time())
        except DecodeError:
            raise OutcomeUnknown(f"{endpoint.address} sent no valid reply") from None
        except RaftkvError as error:
            identity = take_identity(error.facts)
            if identity is None and isinstance(error, ConnectionFailed | OutcomeUnknown):
                binding.failed(endpoint, loop.time())
            if identity is None or binding.identified(endpoint, identity, loop.time()):
                raise
            own = False
        if not own:
            raise binding.foreign_error(endpoint)
        return reply

    async def status(self, endpoint: Endpoint, timeout_s: float) -> NodeStatus:
        """The status of this node."""
        token = self._authentication.token
        try:
            return await self._status(endpoint, timeout_s)
        except Unauthenticated as error:
            if not self._authentication.refused(token, error):
                raise
        await self._authentication.wait(timeout_s or self._settings.silence_s_max)
        return await self._status(endpoint, timeout_s)

    async def _status(self, endpoint: Endpoint, timeout_s: float) -> NodeStatus:
        """The status of this node, asked with the token that there is, if any; note the members.

        It waits for no log-in, as logging in needs it.
        """
        self._home.check()
        data = api_pb2.StatusRequest().SerializeToString()
        timeout_s = timeout_s or self._settings.silence_s_max
        token = self._authentication.token
        reply_type = api_pb2.StatusReply
        reply = await self._ask_once(endpoint, STATUS, data, reply_type, timeout_s, token)
        status = status_of(endpoint.address, reply)
        # A client whose calls are all unary has no other way to learn of new members.
        self._endpoints.learn([member.client_address for member in status.members])
        return status

    async def statuses(
        self, endpoints: tuple[Endpoint, ...], timeout_s: float
    ) -> list[NodeStatus | RaftkvError]:
        """The status of each of these nodes, or the error of one that does not answer."""
        self._home.check()
        return await asyncio.gather(*(self._status_or_error(each, timeout_s) for each in endpoints))

    async def authenticate(
        self, request: api_pb2.AuthenticateRequest, timeout_s: float
    ) -> api_pb2.AuthenticateReply:
        """Check a user's password at any node of the cluster, for a token."""
        reply_type = api_pb2.AuthenticateReply
        return await self.call(AUTHENTICATE, request, reply_type, timeout_s, logs_in=True)

    async def find_leader(
        self, timeout_s: float, on_found: Callable[[], None] = _nothing
    ) -> list[RaftkvError]:
        """Ask every node for its status until one is the leader; note it.

        From then on the others have `connect_grace_s` to answer, for they may belong to another
        cluster. Returns the errors of the nodes that did not answer.
        """
        asked = self._endpoints.all
        tasks = [self._loop.create_task(self._status_or_error(each, timeout_s)) for each in asked]
        errors: list[RaftkvError] = []
        leader: Endpoint | None = None
        wait_s: float | None = None  # until there is a leader: as long as it takes
        try:
            pending = list(tasks)
            while pending and (wait_s is None or wait_s > 0.0):
                await asyncio.wait(pending, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                for endpoint, task in zip(asked, tasks, strict=True):
                    if task not in pending or not task.done():
                        continue
                    answer = task.result()
                    if isinstance(answer, RaftkvError):
                        errors.append(answer)
                        continue
                    if answer.role is Role.LEADER and leader is None:
                        leader = self._endpoints.leader = endpoint
                        until = self._loop.time() + self._settings.connect_grace_s
                        on_found()
                if leader is not None:
                    wait_s = until - self._loop.time()
                pending = [task for task in pending if not task.done()]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if leader is None:
            self._endpoints.leader = None
        return errors

    def search_leader(self, on_found: Callable[[], None]) -> None:
        """Find the leader in the background, unless that is under way."""
        if self._search is None or self._search.done():
            self._search = self._loop.create_task(self._search_leader(on_found))

    async def _search_leader(self, on_found: Callable[[], None]) -> None:
        backoff = Backoff(self._rng, self._settings.backoff_s_min, self._settings.backoff_s_max)
        for _ in range(SEARCHES_MAX):
            await self.find_leader(STATUS_TIMEOUT_S, on_found)
            if self._endpoints.leader is not None:
                return
            await asyncio.sleep(backoff.next_s())

    async def close(self) -> None:
        """End the search."""
        if self._search is not None:
            self._search.cancel()
            await asyncio.wait([self._search])

    async def _status_or_error(
        self, endpoint: Endpoint, timeout_s: float
    ) -> NodeStatus | RaftkvError:
        token = self._authentication.token
        try:
            return await self._status(endpoint, timeout_s)
        except RaftkvError as error:
            if isinstance(error, Unauthenticated):
                self._authentication.refused(token, error)
            return error


def _no_answer(failure: RaftkvError) -> DeadlineExceeded:
    return DeadlineExceeded(f"no node answered in time; the last one: {failure}")

"""What every unary call has: request id, deadline, author, admission, typed errors, a log event."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

import grpc
import structlog

from raftkv.config import Settings
from raftkv.errors import InvariantViolation, OutcomeUnknown, RaftkvError
from raftkv.logs import Logger
from raftkv.peer.ports import Author
from raftkv.rpc.v1 import api_pb2
from raftkv.server.access import ACCESS, rpc_path
from raftkv.server.admission import Admission, ClientShare
from raftkv.server.audit import address_of, target_of
from raftkv.server.authorization import Authorizer, Requester, identity_header
from raftkv.server.failures import abort, ends_service, of_write
from raftkv.server.node_port import NodePort
from raftkv.tls.certificates import real_peer

REQUEST_ID_METADATA = "x-request-id"
REQUEST_ID_CHARACTERS_MAX = 128

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Request = TypeVar("Request")
Reply = TypeVar("Reply")


@dataclass(frozen=True, slots=True)
class UnaryCall:
    """An admitted call. `deadline` is in the event loop's time.

    What it needs was checked for `author`, with whom what it submits must be stamped. A call that
    reads checks again on the state that it reads, by `recheck` or with `requester`.
    """

    request_id: str
    deadline: float
    share: ClientShare
    author: Author
    requester: Requester = field(repr=False)
    request: object = field(repr=False)
    context: Context = field(repr=False)

    @property
    def user(self) -> int:
        """The id of the user, 0 for none."""
        return self.author.user

    @property
    def address(self) -> str:
        """The network address of the caller."""
        return address_of(real_peer(self.context))

    def recheck(self) -> Author:
        """Check what the call needs against the present rights; returns with whom.

        Raises `Unauthenticated` and `PermissionDenied`.
        """
        return self.requester.require_for(self.request)


class UnaryCalls:
    """Serves the unary calls of one node.

    `on_broken` is called with damaged data or a broken invariant: such a node must stop.
    """

    def __init__(
        self,
        node: NodePort,
        authorizer: Authorizer,
        admission: Admission,
        deadlines: Deadlines,
        log: Logger,
        on_broken: Callable[[BaseException], None],
    ) -> None:
        self.authorizer = authorizer
        self._node = node
        self._admission = admission
        self._deadlines = deadlines
        self._on_broken = on_broken
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)

    async def serve(
        self,
        kind: str,
        path: str,
        request: object,
        context: Context,
        work: Callable[[UnaryCall], Awaitable[Reply]],
        act_on: Mapping[str, object] | None = None,
    ) -> Reply:
        """Run `work` if the caller may make the call; an error becomes the call's status.

        An administrative act, which has a target `act_on`, goes into the audit log, and so does
        every refusal.
        """
        arrived = self._loop.time()
        deadline = self._deadlines.of_call(arrived, context.time_remaining())
        request_id = self._request_id(context)
        share = self._admission.client(context.peer())
        failure: str | None = "CANCELLED"
        requester: Requester | None = None
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                requester = self.authorizer.requester(path, context)
                author = await requester.admit(request, deadline)
                call = UnaryCall(request_id, deadline, share, author, requester, request, context)
                reply = await work(call)
                failure = None
                if act_on is not None:
                    requester.report_act(act_on)
                return reply
            except (RaftkvError, InvariantViolation) as problem:
                if ends_service(problem):
                    self._on_broken(problem)
                error = of_write(problem)
                failure = error.reason
                if requester is None:
                    self.authorizer.report_refusal(path, context, error)
                    await abort(context, error, identity_header(self._node))
                elif act_on is not None:
                    requester.report_act(act_on, error)
                else:
                    requester.report(error)
                await abort(context, error, header_of(self._node))
            except asyncio.CancelledError:
                if act_on is not None and requester is not None:
                    gone = OutcomeUnknown("the caller did not wait for the result")
                    requester.report_act(act_on, gone)
                raise
            finally:
                took_ms = (self._loop.time() - arrived) * 1000
                self._log.debug("call", kind=kind, failure=failure, took_ms=took_ms)

    def _request_id(self, context: Context) -> str:
        for key, value in context.invocation_metadata() or ():
            if key == REQUEST_ID_METADATA and isinstance(value, str):
                return value[:REQUEST_ID_CHARACTERS_MAX]
        return f"call-{next(self._numbers)}"


class Service(Protocol):
    """A servicer whose methods are decorated with `data_call`, `admin_call` or `act_call`.

    `kind` is the service and the method, as the log shows them: `kv.execute`.
    """

    calls: UnaryCalls


ServiceT = TypeVar("ServiceT", bound=Service)
Work: TypeAlias = Callable[[ServiceT, Request, UnaryCall], Awaitable[Reply]]
Method: TypeAlias = Callable[[ServiceT, Request, Context], Awaitable[Reply]]


def admin_call(
    kind: str,
) -> Callable[[Work[ServiceT, Request, Reply]], Method[ServiceT, Request, Reply]]:
    """Decorates a call about the node or the cluster, which is not subject to admission."""
    return _served(kind, is_act=False)


def act_call(
    kind: str,
) -> Callable[[Work[ServiceT, Request, Reply]], Method[ServiceT, Request, Reply]]:
    """Decorates an `admin_call` that is an administrative act, for the audit log."""
    return _served(kind, is_act=True)


def _served(
    kind: str, *, is_act: bool
) -> Callable[[Work[ServiceT, Request, Reply]], Method[ServiceT, Request, Reply]]:
    def decorate(work: Work[ServiceT, Request, Reply]) -> Method[ServiceT, Request, Reply]:
        path = _path_of(kind, work.__name__)

        @functools.wraps(work)
        async def method(service: ServiceT, request: Request, context: Context) -> Reply:
            return await service.calls.serve(
                kind,
                path,
                request,
                context,
                functools.partial(work, service, request),
                target_of(request) if is_act else None,  # type: ignore[arg-type]  # a message
            )

        return method

    return decorate


def data_call(
    kind: str,
) -> Callable[[Work[ServiceT, Request, Reply]], Method[ServiceT, Request, Reply]]:
    """Decorates a call on the data, which is refused over a bound and on a stopping node."""

    def decorate(work: Work[ServiceT, Request, Reply]) -> Method[ServiceT, Request, Reply]:
        @functools.wraps(work)
        async def admitted(service: ServiceT, request: Request, call: UnaryCall) -> Reply:
            size_bytes = request.ByteSize()  # type: ignore[attr-defined]
            call.share.enter(size_bytes)
            try:
                return await work(service, request, call)
            finally:
                call.share.leave(size_bytes)

        return admin_call(kind)(admitted)

    return decorate


_SERVICES = {name.lower(): name for name in api_pb2.DESCRIPTOR.services_by_name}


def _path_of(kind: str, method: str) -> str:
    path = rpc_path(_SERVICES[kind.split(".")[0]], method)
    if path not in ACCESS:
        raise TypeError(f"raftkv.server.access does not say what {path} needs")
    return path


def header_of(node: NodePort) -> api_pb2.ReplyHeader:
    """The header of every reply: which node answers, and from which state."""
    return api_pb2.ReplyHeader(
        cluster_id=node.cluster_id,
        incarnation=node.incarnation,
        node_id=node.node_id,
        term=node.term,
        revision=node.machine.revision,
    )


ANSWER_TRAVEL_S = 0.05
ANSWER_EARLY_SHARE_MAX = 0.5


@dataclass(slots=True)
class Deadlines:
    """The deadline of each request, in the event loop's time: a default, and a maximum, which may
    change at any time.

    A caller whose own deadline passes without a reply can't distinguish "not applied" from "maybe
    applied". So the deadline of a unary call is `answer_early_s` before its caller's.
    """

    default_s: float
    max_s: float
    answer_early_s: float

    @classmethod
    def of_settings(cls, settings: Settings) -> Deadlines:
        """A reply may be one tick late, because the node checks deadlines once per tick."""
        return cls(
            default_s=settings.request_timeout_ms_default / 1000,
            max_s=settings.request_timeout_ms_max / 1000,
            answer_early_s=settings.tick_ms / 1000 + ANSWER_TRAVEL_S,
        )

    def apply(self, settings: Settings) -> None:
        """Use these settings for later requests."""
        self.default_s = settings.request_timeout_ms_default / 1000
        self.max_s = settings.request_timeout_ms_max / 1000

    def of_pipeline(self, now: float, timeout_ms: int) -> float:
        """The deadline for the timeout that the client sent; 0: none."""
        return now + (min(timeout_ms / 1000, self.max_s) if timeout_ms else self.default_s)

    def of_call(self, now: float, remaining_s: float | None) -> float:
        """The deadline for the remaining time that gRPC reports; None: the caller set none."""
        if remaining_s is None:
            return now + self.default_s
        early_s = min(self.answer_early_s, remaining_s * ANSWER_EARLY_SHARE_MAX)
        return now + min(remaining_s - early_s, self.max_s)

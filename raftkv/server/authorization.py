"""Whether a caller may do what it asks for: authenticates each call, and checks rights at arrival.

A refusal for want of a right is given only after a read barrier: a node that lags must not refuse
what has been granted before. Submissions are stamped with the user and the revision of the rights
that were checked, so that a node that lags allows nothing that has been withdrawn either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

import grpc

from raftkv.config import Settings
from raftkv.errors import InvalidRequest, PermissionDenied, RaftkvError, Unauthenticated, copy_of
from raftkv.kv.pace import Pace, Steps, run
from raftkv.kv.rights import (
    Access,
    AnyNeed,
    Grants,
    Rights,
    need,
    unauthenticated,
    withheld,
)
from raftkv.logs import Logger
from raftkv.peer.ports import NO_AUTHOR, Author
from raftkv.rpc.v1 import api_pb2, kv_pb2
from raftkv.server import failures
from raftkv.server.access import ACCESS, HAS_NODES, name_of_rpc
from raftkv.server.audit import Audit, address_of
from raftkv.server.authentication import NO_CREDENTIAL, USUAL_TIMES, Authenticator, TokenTimes
from raftkv.server.call_intake import Method, UnaryMethod
from raftkv.server.node_port import NodePort
from raftkv.server.traffic import CallTraffic
from raftkv.tls.certificates import node_of_certificate, real_peer, user_of_certificate
from raftkv.wire.addresses import is_loopback_host, split_host_port

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

FIRST_MESSAGE_S_MAX: Final = 1.0
STREAMS_READ_MAX: Final = 8
"""Refused streams whose first message is read: each may take as much memory as a batch."""

CHECK_UNITS: Final = 4
"""The cost of the check of one command, in units of a step."""


class Authorizer:
    """Authenticates the callers of one node, and has the requirements of all calls."""

    def __init__(
        self, node: NodePort, settings: Settings, log: Logger, times: TokenTimes = USUAL_TIMES
    ) -> None:
        self.node = node
        self.authenticator = Authenticator(node, times)
        self.audit = Audit(log, asyncio.get_running_loop().time)
        self.cluster_name = settings.cluster_name
        self._settings = settings
        self._streams_read = 0
        host, _ = split_host_port(settings.client_listen)
        self.requires_certificate = not (settings.allow_insecure_network or is_loopback_host(host))
        """Whether, while authentication is not enabled, only callers with a certificate are
        served: else whoever reaches the port could do everything.
        """

    def apply(self, settings: Settings) -> None:
        """Use these settings for what is open to callers that are not authenticated."""
        self._settings = settings

    def requester(self, path: str, context: Context) -> Requester:
        """Who makes the call. Raises `Unauthenticated` for a caller that may not make it, whatever
        rights its user has, and `Unavailable` as `Authenticator.of_call`.
        """
        requirement = ACCESS[path]
        if requirement.open(self._settings):
            return Requester(self, path, context, is_open=True)
        requester = Requester(self, path, context)
        requester.author()
        return requester

    async def requester_of_stream(self, path: str, context: Context) -> Requester | None:
        """Who has opened the stream; None if the caller may not, and the stream has ended."""
        try:
            return self.requester(path, context)
        except RaftkvError as error:
            await self._refuse_stream(path, context, error)
            return None

    async def _refuse_stream(self, path: str, context: Context, error: RaftkvError) -> None:
        """End a stream that is not served, after its first message.

        A refusal during a write of the caller reaches it without its reason: its gRPC reports
        "Internal error from Core".
        """
        self.report_refusal(path, context, error)
        if self._streams_read < STREAMS_READ_MAX:
            self._streams_read += 1
            try:
                async with asyncio.timeout(FIRST_MESSAGE_S_MAX):
                    await context.read()
            except TimeoutError:
                pass  # it has nothing to write
            finally:
                self._streams_read -= 1
        await failures.abort(context, error, identity_header(self.node))

    def report_refusal(
        self, path: str, context: Context, error: RaftkvError, who: str = ""
    ) -> None:
        """Write the audit event, if the error refuses the caller."""
        if isinstance(error, (PermissionDenied, Unauthenticated)):
            self.audit.refused(who, address_of(real_peer(context)), name_of_rpc(path), error)

    def guard(self, methods: dict[str, Method]) -> dict[str, Method]:
        """The same methods, for callers that are authenticated where the requirement says so.

        For services that know no users: health and reflection.
        """
        return {path: self._guarded(path, method) for path, method in methods.items()}

    def _guarded(self, path: str, method: Method) -> Method:
        def require(context: Context) -> None:
            try:
                self.requester(path, context)
            except RaftkvError as error:
                self.report_refusal(path, context, error)
                raise

        def serve_unary(request: Any, context: Context) -> Any:
            require(context)
            return method.work(request, context)  # type: ignore[union-attr]

        async def serve_stream(request: Any, context: Context, traffic: CallTraffic) -> None:
            require(context)
            await method.serve(request, context, traffic)  # type: ignore[union-attr]

        if isinstance(method, UnaryMethod):
            return replace(method, work=serve_unary)
        return replace(method, serve=serve_stream)


class Requester:
    """The caller of one call or stream, who is authenticated anew at each use."""

    __slots__ = (
        "_author",
        "_authorizer",
        "_context",
        "_credential",
        "_has_certificate",
        "_is_open",
        "_node_id",
        "_not_taken",
        "_path",
        "grants",
        "rights",
    )

    def __init__(
        self, authorizer: Authorizer, path: str, context: Context, *, is_open: bool = False
    ) -> None:
        """Raises as `Authenticator.of_call`. `is_open`: the call needs no authentication."""
        self._authorizer = authorizer
        self._path = path
        self._context = context
        self._is_open = is_open
        self._credential = NO_CREDENTIAL if is_open else authorizer.authenticator.of_call(context)
        self._node_id: int | None = None
        """The node whose certificate the caller has shown, for the calls that nodes may make."""

        if path in HAS_NODES:
            self._node_id = node_of_certificate(context, authorizer.cluster_name)
        self._has_certificate = authorizer.requires_certificate and (
            self._node_id is not None or user_of_certificate(context) is not None
        )
        self._author = NO_AUTHOR
        self._not_taken: RaftkvError | None = None
        """Why the last newer token of the stream was not taken."""

        self.rights: Rights | None = None
        """Those of the node, as of the last use."""

        self.grants: Grants | None = None
        """What the user may do, under `rights`; None: everything. The same object while it is
        equal.
        """

    # ---- who -------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the user or of the certificate, empty for none."""
        return self._authorizer.authenticator.name_of(self._credential)

    def author(self) -> Author:
        """The user now, and the revision of the rights on this node.

        Raises `Unauthenticated` if the credential is not valid any more, or what `renew` has raised
        if the stream was to go on with a newer one. Cheap while the rights are the same.
        """
        authorizer = self._authorizer
        rights = authorizer.node.machine.rights
        try:
            user = authorizer.authenticator.user_of(self._credential)
        except Unauthenticated:
            if self._not_taken is None:
                raise
            # The caller sent this request with the newer token, before it knew of the refusal.
            raise copy_of(self._not_taken) from None
        if rights is not self.rights:
            self._renew_rights(rights, user)
        return self._author

    def _renew_rights(self, rights: Rights, user: int) -> None:
        if self._is_open:
            pass
        elif rights.enabled:
            if user not in rights.users and self._node_id is None:
                raise unauthenticated()
        elif self._authorizer.requires_certificate and not self._has_certificate:
            raise Unauthenticated(
                "authentication is not enabled yet, and this node listens on a network: until then"
                " it serves only callers with a client certificate of a user. With one, add the"
                " user root, grant it the role root, and enable authentication"
            )
        limited = rights.enabled and not self._is_open
        grants = rights.grants_of(user) if limited else None
        if grants is not None and grants.root:
            grants = None
        if grants != self.grants:
            self.grants = grants
        self._author = Author(user, rights.revision)
        self.rights = rights

    def renew(self, token: str) -> None:
        """The stream goes on with a newer token of its user.

        Raises `InvalidRequest` for a token of another user, and as `Authenticator.of_token`.
        """
        authenticator = self._authorizer.authenticator
        try:
            credential = authenticator.of_token(token)
            user = authenticator.user_of(credential)
        except RaftkvError as error:
            self._not_taken = error
            raise
        if user != self._author.user:
            raise InvalidRequest(
                "the token is that of another user than the stream's; open another stream with it",
                field="token",
            )
        self._credential, self._not_taken = credential, None
        self.author()

    def report(self, error: RaftkvError) -> None:
        """Write the audit event, if the error refuses the caller."""
        if not self._is_open:  # an open call reports in its own way
            self._authorizer.report_refusal(self._path, self._context, error, self.name)

    def report_act(
        self, target: Mapping[str, object], error: RaftkvError | None = None, *, what: str = ""
    ) -> None:
        """Write the audit event of an administrative act, done or failed: of this RPC, or `what`
        was done by it.
        """
        address, what = address_of(real_peer(self._context)), what or name_of_rpc(self._path)
        self._authorizer.audit.act(self.name, address, what, error, **target)

    def report_compaction(self, revision: int, error: RaftkvError | None) -> None:
        """Write the audit event of a compaction; that of a refusal is written by `report`."""
        if not isinstance(error, (PermissionDenied, Unauthenticated)):
            self.report_act({"revision": revision}, error, what="KV.Compact")

    # ---- what ------------------------------------------------------------------------

    def require(self, *needs: AnyNeed) -> None:
        """Raise `Unauthenticated` or `PermissionDenied` unless the user has these rights now."""
        author = self.author()
        if self.grants is not None and self.rights is not None:
            self.rights.require(author.user, needs)

    def require_read_of_key(self, key: bytes) -> None:
        """As `require`, with read access to one key."""
        self.author()
        if self.grants is not None and not self.grants.read.contains_key(key):
            self.require(need(Access.READ, key))

    def require_for(self, request: Any) -> Author:
        """Raise as `require` unless the user may make the call with this request.

        Returns the author with whom it was checked.
        """
        author, requirement = self.author(), ACCESS[self._path]
        may_as_node = self._node_id is not None and requirement.node(request, self._node_id)
        if self._is_bare_node:
            if not may_as_node:
                raise unauthenticated()
        elif (
            self.grants is not None
            and self.rights is not None
            and not may_as_node
            and not requirement.own(request, self.rights, author.user)
        ):
            self.rights.require(author.user, requirement.needs(request))
        return author

    @property
    def _is_bare_node(self) -> bool:
        """Whether the caller has nothing but a node's certificate, and that matters."""
        return (
            self._node_id is not None
            and self._credential is NO_CREDENTIAL
            and (self._authorizer.requires_certificate or bool(self.rights and self.rights.enabled))
        )

    async def admit(self, request: Any, deadline: float) -> Author:
        """As `require_for`, on rights that include all that was granted before this call.

        Raises what a read barrier raises if the rights have to be confirmed and can't be.
        """
        try:
            return self.require_for(request)
        except PermissionDenied:
            await self._authorizer.node.read_barrier(deadline)
            return self.require_for(request)

    def check_batch(self, batch: kv_pb2.CommandBatch) -> Steps[Author]:
        """Raise `PermissionDenied` unless the user may run all commands of the batch.

        `facts["position"]` is that of the refused command, unless the batch has run before as a
        whole. Returns the author with whom they were checked.
        """
        author, rights, grants = self.author(), self.rights, self.grants
        if grants is None or rights is None:
            return author
        spend, allow = Pace().spend, grants.allow_command
        for position, command in enumerate(batch.commands):
            if not allow(command):
                error = rights.refusal_of_command(author.user, command)
                if error is not None:
                    raise self._refused_command(error, batch, position, author.user)
            if spend(CHECK_UNITS):
                yield
        return author

    def _refused_command(
        self, error: RaftkvError, batch: kv_pb2.CommandBatch, position: int, user: int
    ) -> RaftkvError:
        """The refusal with its outcome: a command that is sent again may have run before."""
        machine, command = self._authorizer.node.machine, batch.commands[position]
        if machine.has_result(batch.session, batch.sequence, user):
            return withheld(error)
        if command.idempotency_key and machine.knows_idempotency_key(command, user):
            error = withheld(error)
        error.facts["position"] = str(position)
        return error

    async def confirm_batch(self, batch: kv_pb2.CommandBatch, deadline: float) -> Author:
        """As `check_batch`, on rights that include all that was granted before this call."""
        await self._authorizer.node.read_barrier(deadline)
        steps = self.check_batch(batch)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                author: Author = done.value
                return author
            await asyncio.sleep(0)

    async def admit_command(self, command: kv_pb2.Command, deadline: float) -> Author:
        """As `admit`, for one command."""
        batch = kv_pb2.CommandBatch(commands=[command])
        try:
            return run(self.check_batch(batch))
        except PermissionDenied:
            return await self.confirm_batch(batch, deadline)


def identity_header(node: NodePort) -> api_pb2.ReplyHeader:
    """The header for callers that are not authenticated: which node answers, without its state."""
    return api_pb2.ReplyHeader(
        cluster_id=node.cluster_id, incarnation=node.incarnation, node_id=node.node_id
    )

"""`raftkv.rpc.v1.Auth`: authentication on and off; users, roles and tokens."""

# ruff: noqa: N802 (gRPC finds a method by its name in the proto)

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

from raftkv.errors import (
    DeadlineExceeded,
    InvalidRequest,
    PermissionDenied,
    RoleNotFound,
    Unauthenticated,
    UserNotFound,
)
from raftkv.kv.auth import NAME
from raftkv.kv.rights import ROOT, Rights
from raftkv.peer.ports import Author
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, auth_pb2, kv_pb2
from raftkv.server.authentication import (
    new_service_token,
)
from raftkv.server.calls import UnaryCall, UnaryCalls, act_call, admin_call, header_of
from raftkv.server.node_port import NodePort
from raftkv.server.passwords import FailedAttempts, Passwords
from raftkv.server.reads import ReadHandler
from raftkv.tls.certificates import user_of_certificate
from raftkv.wire.failures import only_result

JUST_AUTHENTICATED_MS: Final = 60_000
"""Who enables or disables authentication has proven its password or certificate so recently."""


Returned = TypeVar("Returned")


class AuthService(api_pb2_grpc.AuthServicer):
    """Changes go through the log with the caller as their author; replies have no hash."""

    def __init__(
        self, node: NodePort, reader: ReadHandler, calls: UnaryCalls, passwords: Passwords
    ) -> None:
        self.calls = calls
        self._node = node
        self._reader = reader
        self._authenticator = calls.authorizer.authenticator
        self._audit = calls.authorizer.audit
        self._passwords = passwords
        self._failed_attempts = FailedAttempts(asyncio.get_running_loop().time)

    def close(self) -> None:
        """Hash no further password."""
        self._passwords.close()

    # ---- sessions --------------------------------------------------------------------

    @admin_call("auth.authenticate")
    async def Authenticate(
        self, request: api_pb2.AuthenticateRequest, call: UnaryCall
    ) -> api_pb2.AuthenticateReply:
        try:
            if request.password:
                user = await self._user_of_password(request.name, request.password, call)
            else:
                user = await self._user_of_certificate(request.name, call)
        except Unauthenticated as error:
            # Whatever is no user's name may be a password, in the wrong place.
            who = request.name if request.name in self._rights.ids else ""
            self._audit.refused(who, call.address, "Auth.Authenticate", error)
            raise
        await self._stamp(user, call)
        token = self._authenticator.session_token(user)
        self._audit.act(user.name, call.address, "Auth.Authenticate")
        ttl_ms = self._authenticator.times.session_ttl_ms
        return api_pb2.AuthenticateReply(header=header_of(self._node), token=token, ttl_ms=ttl_ms)

    async def _user_of_password(self, name: str, password: str, call: UnaryCall) -> auth_pb2.User:
        attempts, address = self._failed_attempts, call.address
        if not NAME.fullmatch(name):
            name = ""  # no user has such a name, which may be long
        attempts.require_allowed(name, address)
        await self._confirm(call)
        user = self._rights.user_named(name)
        password_hash = user.password_hash if user is not None else ""
        verified = await self._in_time(
            call,
            self._passwords.verify(
                password,
                password_hash,
                address,
                begin=lambda: attempts.require_allowed(name, address),
            ),
        )
        if user is None or not verified:
            raise Unauthenticated(
                "the user name or the password is wrong",
                retry_after_s=attempts.failed(name, address),
            )
        attempts.succeeded(name, address)
        return user

    async def _user_of_certificate(self, name: str, call: UnaryCall) -> auth_pb2.User:
        named = user_of_certificate(call.context)
        if named is None:
            raise InvalidRequest(
                "the password is empty, and the connection has no certificate of a user; give one"
                " of them",
                field="password",
            )
        await self._confirm(call)
        user = self._rights.user_named(named)
        if user is None or name not in ("", named):
            raise Unauthenticated(
                "the certificate is not that of the user; leave the name out, and add a user of"
                " the certificate's name if there is none"
            )
        return user

    async def _stamp(self, user: auth_pb2.User, call: UnaryCall) -> None:
        """Have the leader stamp an entry with cluster time, and apply it.

        This node may have applied its last stamp long after the leader made it: after a restart, or
        behind the others. A token of its time would end too early at other nodes, or have ended.
        """
        node = self._node
        nothing = kv_pb2.CommandBatch().SerializeToString()
        author = Author(user.id, node.machine.rights.revision)
        await node.submit(nothing, call.deadline, client=call.share.number, author=author)

    # ---- authentication on and off ---------------------------------------------------

    @act_call("auth.enable")
    async def Enable(
        self, _: api_pb2.AuthEnableRequest, call: UnaryCall
    ) -> api_pb2.AuthChangeReply:
        await self._require_root_just_authenticated(call)
        return await self._change(call, enable=auth_pb2.AuthEnable())

    @act_call("auth.disable")
    async def Disable(
        self, _: api_pb2.AuthDisableRequest, call: UnaryCall
    ) -> api_pb2.AuthChangeReply:
        await self._require_root_just_authenticated(call)
        return await self._change(call, disable=auth_pb2.AuthDisable())

    async def _require_root_just_authenticated(self, call: UnaryCall) -> None:
        await self._confirm(call)
        credential = self._authenticator.of_call(call.context)
        age_ms = self._authenticator.authenticated_ms_ago(credential)
        if age_ms is None or age_ms > JUST_AUTHENTICATED_MS:
            raise Unauthenticated(
                "this needs a session token that is not older than"
                f" {JUST_AUTHENTICATED_MS // 1000} s; log in again, with the password of a user who"
                f" has the role {ROOT!r}"
            )
        user = self._authenticator.user_of(credential)
        if not self._rights.grants_of(user).root:
            raise PermissionDenied(
                f"user {self._rights.name_of(user)!r} does not have the role {ROOT!r}, which this"
                " needs; authenticate as a user who has it",
                user=self._rights.name_of(user),
                missing=f"the role {ROOT}",
            )

    @admin_call("auth.status")
    async def Status(
        self, _: api_pb2.AuthStatusRequest, call: UnaryCall
    ) -> api_pb2.AuthStatusReply:
        await self._confirm(call)
        user = call.recheck().user
        return api_pb2.AuthStatusReply(
            header=header_of(self._node),
            enabled=self._rights.enabled,
            auth_revision=self._rights.revision,
            user=self._rights.name_of(user),
        )

    # ---- users -----------------------------------------------------------------------

    @act_call("auth.user_add")
    async def UserAdd(
        self, request: api_pb2.UserAddRequest, call: UnaryCall
    ) -> api_pb2.AuthChangeReply:
        await self._require_auth(call)
        password_hash = await self._hash(request.password, call) if request.password else ""
        user = auth_pb2.UserAdd(name=request.name, password_hash=password_hash)
        return await self._change(call, user_add=user)

    @admin_call("auth.user_get")
    async def UserGet(
        self, request: api_pb2.UserGetRequest, call: UnaryCall
    ) -> api_pb2.UserGetReply:
        await self._require_auth(call)
        user = self._rights.user_named(request.name)
        if user is None:
            raise UserNotFound(f"there is no user {request.name!r}", user=request.name)
        return api_pb2.UserGetReply(header=header_of(self._node), user=_user_info(user))

    @admin_call("auth.user_list")
    async def UserList(self, _: api_pb2.UserListRequest, call: UnaryCall) -> api_pb2.UserListReply:
        await self._require_auth(call)
        users = sorted(self._rights.users.values(), key=lambda user: user.name)
        return api_pb2.UserListReply(
            header=header_of(self._node), users=[_user_info(user) for user in users]
        )

    @act_call("auth.user_delete")
    async def UserDelete(
        self, request: api_pb2.UserDeleteRequest, call: UnaryCall
    ) -> api_pb2.AuthChangeReply:
        await self._require_auth(call)
        return await self._change(call, user_delete=auth_pb2.UserDelete(name=request.name))

    @act_call("auth.user_set_password")
    async def UserSetPassword(
        self, request: api_pb2.UserSetPasswordRequest, call: UnaryCall
    ) -> api_pb2.AuthChangeReply:
        await self._require_auth(call)
        password_hash = await self._hash(request.password, call)
        changed = auth_pb2.UserSetPassword(name=request.name, password_hash=password_hash)
        return await self._change(call, user_set_password=changed)

    @act_call("auth.user_grant_role")
    async def UserGrantRole(
        self, request: api_pb2.UserGrantRoleRequest, call: UnaryCall
    ) -> api_pb2.AuthChangeReply:
        await self._require_auth(call)
        granted = auth_pb2.UserGrantRole(name=request.name, role=request.role)
        return await self._change(call, user_grant_role=granted)

    @act_call("auth.user_revoke_role")
    async def UserRevokeRole(
        self, request: api_pb2.UserRevokeRoleRequest, call: UnaryCall
    ) -> api_pb2.AuthChangeReply:
        await self._require_auth(call)
        revoked = auth_pb2.UserRevokeRole(name=request.name, role=request.role)
        return await self._change(call, user_revoke_role=revoked)

    # ---- roles -----------------------------------------------------------------------

    @act_call("auth.role_add")
    async def RoleAdd(
        self, request: api_pb2.RoleAddRequest, call: UnaryCall
    ) -> api_pb2.AuthChangeReply:
        await self._require_auth(call)
        return await self._change(call, role_add=auth_pb2.RoleAdd(name=request.name))

    @admin_call("auth.role_get")
    async def RoleGet(
        self, request: api_pb2.RoleGetRequest, call: UnaryCall
    ) -> api_pb2.RoleGetReply:
        await self._require_auth(call)
        role = self._rights.roles.get(request.name)
        if role is None:
            raise RoleNotFound(f"there is no role {request.name!r}", role=request.name)
        return api_pb2.RoleGetReply(header=header_of(self._node), role=role)

    @admin_call("auth.role_list")
    async def RoleList(self, _: api_pb2.RoleListRequest, call: UnaryCall) -> api_pb2.RoleListReply:
        await self._require_auth(call)
        roles = sorted({*self._rights.roles, ROOT})
        return api_pb2.RoleListReply(header=header_of(self._node), roles=roles)

    @act_call("auth.role_delete")
    async def RoleDelete(
        self, request: api_pb2.RoleDeleteRequest, call: UnaryCall
    ) -> api_pb2.AuthChangeReply:
        await self._require_auth(call)
        return await self._change(call, role_delete=auth_pb2.RoleDelete(name=request.name))

    @act_call("auth.role_grant")
    async def RoleGrant(
        self, request: api_pb2.RoleGrantRequest, call: UnaryCall
    ) -> api_pb2.AuthChangeReply:
        await self._require_auth(call)
        granted = auth_pb2.RoleGrant.FromString(request.SerializeToString())  # the same fields
        return await self._change(call, role_grant=granted)

    @act_call("auth.role_revoke")
    async def RoleRevoke(
        self, request: api_pb2.RoleRevokeRequest, call: UnaryCall
    ) -> api_pb2.AuthChangeReply:
        await self._require_auth(call)
        revoked = auth_pb2.RoleRevoke.FromString(request.SerializeToString())  # the same fields
        return await self._change(call, role_revoke=revoked)

    # ---- tokens ----------------------------------------------------------------------

    @act_call("auth.token_create")
    async def TokenCreate(
        self, request: api_pb2.TokenCreateRequest, call: UnaryCall
    ) -> api_pb2.TokenCreateReply:
        await self._require_auth(call)
        token = new_service_token()
        created = auth_pb2.TokenCreate(
            id=token.id, user=request.user, secret_hash=token.secret_hash, ttl_ms=request.ttl_ms
        )
        await self._change(call, token_create=created)
        return api_pb2.TokenCreateReply(
            header=header_of(self._node), id=token.id.hex(), token=token.text
        )

    @admin_call("auth.token_list")
    async def TokenList(
        self, _: api_pb2.TokenListRequest, call: UnaryCall
    ) -> api_pb2.TokenListReply:
        await self._require_auth(call)
        rights, now_ms = self._rights, self._node.auth_time_ms
        tokens = [
            api_pb2.TokenInfo(
                id=token.id.hex(),
                user=rights.name_of(token.user),
                left_ms=token.expires_ms - now_ms if token.expires_ms else -1,
            )
            for token in sorted(rights.tokens.values(), key=lambda token: token.created_ms)
            if not token.expires_ms or token.expires_ms > now_ms
        ]
        return api_pb2.TokenListReply(header=header_of(self._node), tokens=tokens)

    @act_call("auth.token_revoke")
    async def TokenRevoke(
        self, request: api_pb2.TokenRevokeRequest, call: UnaryCall
    ) -> api_pb2.AuthChangeReply:
        await self._require_auth(call)
        try:
            id = bytes.fromhex(request.id)
        except ValueError:
            raise InvalidRequest(
                "the id is not that of a token: it is hexadecimal, as TokenList shows it",
                field="id",
            ) from None
        return await self._change(call, token_revoke=auth_pb2.TokenRevoke(id=id))

    # ---- what they share -------------------------------------------------------------

    @property
    def _rights(self) -> Rights:
        return self._node.machine.rights

    async def _confirm(self, call: UnaryCall) -> None:
        """Wait until this node has applied all that was acknowledged before."""
        await self._reader.confirm(api_pb2.READ_LEVEL_LINEARIZABLE, call.deadline)

    async def _require_auth(self, call: UnaryCall) -> None:
        """Raise unless the caller has the right `auth`, or the request is about what is its own."""
        await self._confirm(call)
        call.recheck()

    async def _hash(self, password: str, call: UnaryCall) -> str:
        return await self._in_time(call, self._passwords.hash(password, call.address))

    async def _in_time(self, call: UnaryCall, work: Awaitable[Returned]) -> Returned:
        """Raises `DeadlineExceeded`; nothing was proposed then."""
        try:
            async with asyncio.timeout_at(call.deadline):
                return await work
        except TimeoutError:
            raise DeadlineExceeded(
                "the deadline passed while the password waited to be hashed; try again later"
            ) from None

    async def _change(self, call: UnaryCall, **command: Any) -> api_pb2.AuthChangeReply:
        """Put the command through the log, as the caller's. Raises what forbade it at apply."""
        author = call.recheck()  # a password may have been hashed since the last check
        changes = kv_pb2.Command(auth=auth_pb2.AuthCommand(**command))
        batch = kv_pb2.CommandBatch(commands=[changes])
        results = await self._node.submit(
            batch.SerializeToString(),
            call.deadline,
            client=call.share.number,
            author=author,
        )
        revision = only_result(results).auth.auth_revision
        return api_pb2.AuthChangeReply(header=header_of(self._node), auth_revision=revision)


def _user_info(user: auth_pb2.User) -> api_pb2.UserInfo:
    return api_pb2.UserInfo(name=user.name, roles=user.roles, has_password=bool(user.password_hash))

"""The client's methods for users, roles and tokens: `client.auth`."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TypeVar

from raftkv.arguments import milliseconds, shown, to_bytes, to_text
from raftkv.client.authentication import Authentication
from raftkv.client.connection.link import AUTH_SERVICE
from raftkv.client.connection.unary import HeadedReplyT, UnaryRequest, UnaryRequests
from raftkv.client.core import Core
from raftkv.client.credentials import to_secret
from raftkv.client.model.users import (
    ACCESS_NUMBERS,
    ADMIN_RIGHT_NUMBERS,
    AdministrativeRight,
    AuthStatus,
    KeyAccess,
    NewToken,
    RoleInfo,
    TokenInfo,
    UserInfo,
    role_info,
    token_info,
    user_info,
)
from raftkv.client.requests import prefix_range
from raftkv.errors import DeadlineExceeded, InvalidRequest, OutcomeUnknown
from raftkv.rpc.v1 import api_pb2, auth_pb2

E = TypeVar("E", bound=enum.StrEnum)


class Auth:
    """Users, roles and service tokens, and whether authentication is enabled: `client.auth`.

    The methods need the administrative right `auth`, except `status`, and what concerns the
    caller's own user: `user_get`, `user_set_password`, and `role_get` for a role of the caller.

    All changes return the revision of users, roles and tokens.

    Every method raises `PermissionDenied`, `Unauthenticated`, `DeadlineExceeded`, `InvalidRequest`
    for a wrong argument, `WrongCluster`, and `Refused` if the cluster's version has no users; a
    change raises `OutcomeUnknown` if it may have been applied. Each costs one request, a change one
    entry of the log as well.
    """

    def __init__(
        self,
        unary: UnaryRequests,
        authentication: Authentication,
        timeout_of: Callable[[float | None], float],
    ) -> None:
        self._unary = unary
        self._authentication = authentication
        self._timeout_of = timeout_of

    async def status(self, *, timeout: float | None = None) -> AuthStatus:
        """Whether authentication is enabled, and the caller's user.

        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Needs no right. Raises as all methods of `Auth`.
        """
        request, reply_type = api_pb2.AuthStatusRequest(), api_pb2.AuthStatusReply
        reply = await self._ask("Status", request, reply_type, timeout)
        return AuthStatus(reply.enabled, reply.auth_revision, reply.user)

    async def enable(self, *, timeout: float | None = None) -> int:
        """From now on, serve only callers that are authenticated, each within its rights.

        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Returns the revision of users, roles and tokens. Only a user with the role `root` may enable
        it. Enabling it twice does nothing. Raises as all methods of `Auth`.
        """
        return await self._change("Enable", api_pb2.AuthEnableRequest(), timeout)

    async def disable(self, *, timeout: float | None = None) -> int:
        """From now on, serve every caller. Users, roles and tokens stay as they are.

        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Returns the revision of users, roles and tokens. Only a user with the role `root` may
        disable it. Raises as all methods of `Auth`.
        """
        return await self._change("Disable", api_pb2.AuthDisableRequest(), timeout)

    # ---- users -------------------------------------------------------------------------

    async def user_add(
        self, name: str, password: str | None = None, *, timeout: float | None = None
    ) -> int:
        """Add a user, without roles; returns the revision of users, roles and tokens.

        - `name`: 1 to 128 letters, digits and . _ @ + -, a letter or digit first.
        - `password`: None: the user has none, and uses service tokens or a certificate.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `UserExists`, and as all methods of `Auth`.
        """
        secret = "" if password is None else to_secret(password, "password")
        request = api_pb2.UserAddRequest(name=to_text(name, "name"), password=secret)
        return await self._change("UserAdd", request, timeout)

    async def user_get(self, name: str, *, timeout: float | None = None) -> UserInfo:
        """The user of this name.

        - `name`: of the user.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `UserNotFound`, and as all methods of `Auth`.
        """
        request = api_pb2.UserGetRequest(name=to_text(name, "name"))
        reply = await self._ask("UserGet", request, api_pb2.UserGetReply, timeout)
        return user_info(reply.user)

    async def user_list(self, *, timeout: float | None = None) -> tuple[UserInfo, ...]:
        """All users, by name.

        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises as all methods of `Auth`.
        """
        request, reply_type = api_pb2.UserListRequest(), api_pb2.UserListReply
        reply = await self._ask("UserList", request, reply_type, timeout)
        return tuple(map(user_info, reply.users))

    async def user_delete(self, name: str, *, timeout: float | None = None) -> int:
        """Delete a user and its service tokens; returns the revision of users, roles and tokens.

        - `name`: of the user.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Whoever is authenticated as this user is not from now on, also on open streams. A later user
        of the same name is another one. Raises `UserNotFound`, and as all methods of `Auth`.
        """
        request = api_pb2.UserDeleteRequest(name=to_text(name, "name"))
        return await self._change("UserDelete", request, timeout)

    async def user_set_password(
        self, name: str, password: str, *, timeout: float | None = None
    ) -> int:
        """Set a user's password; returns the revision of users, roles and tokens.

        - `name`: of the user. `password`: the new one.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        The tokens that the password before has given are not valid any more; service tokens are. A
        client that changes the password of its own user goes on with the new one.
        Raises `UserNotFound`, and as all methods of `Auth`.
        """
        request = api_pb2.UserSetPasswordRequest(
            name=to_text(name, "name"), password=to_secret(password, "password")
        )
        revision = await self._change("UserSetPassword", request, timeout)
        self._authentication.password_changed(name, password)
        return revision

    async def user_grant_role(self, name: str, role: str, *, timeout: float | None = None) -> int:
        """Give a role to a user; returns the revision of users, roles and tokens.

        - `name`: of the user.
        - `role`: a role that was added, or `root`, which may do everything.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `UserNotFound`, `RoleNotFound`, and as all methods of `Auth`.
        """
        request = api_pb2.UserGrantRoleRequest(
            name=to_text(name, "name"), role=to_text(role, "role")
        )
        return await self._change("UserGrantRole", request, timeout)

    async def user_revoke_role(self, name: str, role: str, *, timeout: float | None = None) -> int:
        """Take a role from a user; returns the revision of users, roles and tokens.

        - `name`: of the user. `role`: one that it has.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `UserNotFound`, `RoleNotFound` if the user does not have it, and as all methods of
        `Auth`.
        """
        request = api_pb2.UserRevokeRoleRequest(
            name=to_text(name, "name"), role=to_text(role, "role")
        )
        return await self._change("UserRevokeRole", request, timeout)

    # ---- roles -------------------------------------------------------------------------

    async def role_add(self, name: str, *, timeout: float | None = None) -> int:
        """Add a role without rights; returns the revision of users, roles and tokens.

        - `name`: as that of a user.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `RoleExists`, and as all methods of `Auth`.
        """
        request = api_pb2.RoleAddRequest(name=to_text(name, "name"))
        return await self._change("RoleAdd", request, timeout)

    async def role_get(self, name: str, *, timeout: float | None = None) -> RoleInfo:
        """The role of this name, with its rights.

        - `name`: of the role.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `RoleNotFound`, and as all methods of `Auth`.
        """
        request = api_pb2.RoleGetRequest(name=to_text(name, "name"))
        reply = await self._ask("RoleGet", request, api_pb2.RoleGetReply, timeout)
        return role_info(reply.role)

    async def role_list(self, *, timeout: float | None = None) -> tuple[str, ...]:
        """The names of all roles.

        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises as all methods of `Auth`.
        """
        request, reply_type = api_pb2.RoleListRequest(), api_pb2.RoleListReply
        reply = await self._ask("RoleList", request, reply_type, timeout)
        return tuple(reply.roles)

    async def role_delete(self, name: str, *, timeout: float | None = None) -> int:
        """Delete a role, and take it from all users; returns the revision of users, roles and
        tokens.

        - `name`: of the role.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `RoleNotFound`, and as all methods of `Auth`.
        """
        request = api_pb2.RoleDeleteRequest(name=to_text(name, "name"))
        return await self._change("RoleDelete", request, timeout)

    async def role_grant(
        self,
        role: str,
        access: KeyAccess | str | None = None,
        *,
        key: str | bytes | None = None,
        prefix: str | bytes | None = None,
        range_end: str | bytes | None = None,
        admin_right: AdministrativeRight | str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Add a right to a role; returns the revision of users, roles and tokens.

            await client.auth.role_grant("app", "readwrite", prefix="app/")
            await client.auth.role_grant("operator", admin_right="cluster")

        - `role`: its name.
        - `access`: "read", "write" or "readwrite", to the keys that the following name. It takes
          the place of what the role had on exactly this range.
        - `key`: the key; with `range_end` the keys from `key` up to, and without, `range_end`.
        - `prefix`: all keys with this prefix; an empty one: all keys.
        - `admin_right`: instead of all these, "cluster", "maintenance", "auth" or "sessions".
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `RoleNotFound`, and as all methods of `Auth`.
        """
        request = api_pb2.RoleGrantRequest(role=to_text(role, "role"))
        if admin_right is not None:
            _refuse_keys(access, key, prefix, range_end)
            request.admin_right = _admin_right_number(admin_right)
        else:
            request.permission.CopyFrom(_permission(key, prefix, range_end))
            request.permission.access = ACCESS_NUMBERS[_one_of(KeyAccess, access, "access")]
        return await self._change("RoleGrant", request, timeout)

    async def role_revoke(
        self,
        role: str,
        *,
        key: str | bytes | None = None,
        prefix: str | bytes | None = None,
        range_end: str | bytes | None = None,
        admin_right: AdministrativeRight | str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Take a right from a role; returns the revision of users, roles and tokens.

        - `role`: its name.
        - `key`, `prefix`, `range_end`: exactly the range of a permission that the role has.
        - `admin_right`: instead of these, the name of an administrative right.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `RoleNotFound`, and as all methods of `Auth`.
        """
        request = api_pb2.RoleRevokeRequest(role=to_text(role, "role"))
        if admin_right is not None:
            _refuse_keys(None, key, prefix, range_end)
            request.admin_right = _admin_right_number(admin_right)
        else:
            request.permission.CopyFrom(_permission(key, prefix, range_end))
        return await self._change("RoleRevoke", request, timeout)

    # ---- service tokens ----------------------------------------------------------------

    async def token_create(
        self, user: str, ttl_s: float | None = None, *, timeout: float | None = None
    ) -> NewToken:
        """Create a service token, with which its bearer acts as `user`.

        - `user`: its name.
        - `ttl_s`: how many seconds it is valid; None: without end.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        The cluster keeps only a hash of it. Raises `UserNotFound`, and as all methods of `Auth`.
        """
        ttl_ms = 0 if ttl_s is None else milliseconds(ttl_s, "ttl_s")
        request = api_pb2.TokenCreateRequest(user=to_text(user, "user"), ttl_ms=ttl_ms)
        reply = await self._ask(
            "TokenCreate", request, api_pb2.TokenCreateReply, timeout, changes=True
        )
        return NewToken(reply.id, reply.token)

    async def token_list(self, *, timeout: float | None = None) -> tuple[TokenInfo, ...]:
        """All service tokens, without their secrets.

        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises as all methods of `Auth`.
        """
        request, reply_type = api_pb2.TokenListRequest(), api_pb2.TokenListReply
        reply = await self._ask("TokenList", request, reply_type, timeout)
        return tuple(map(token_info, reply.tokens))

    async def token_revoke(self, token_id: str, *, timeout: float | None = None) -> int:
        """End a service token; returns the revision of users, roles and tokens.

        - `token_id`: its id, not the token itself.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `TokenNotFound`, and as all methods of `Auth`.
        """
        request = api_pb2.TokenRevokeRequest(id=to_text(token_id, "token_id"))
        return await self._change("TokenRevoke", request, timeout)

    # ---- calls -------------------------------------------------------------------------

    async def _change(self, method: str, request: UnaryRequest, timeout: float | None) -> int:
        reply_type = api_pb2.AuthChangeReply
        reply = await self._ask(method, request, reply_type, timeout, changes=True)
        return reply.auth_revision

    async def _ask(
        self,
        method: str,
        request: UnaryRequest,
        reply_type: type[HeadedReplyT],
        timeout: float | None,
        *,
        changes: bool = False,
    ) -> HeadedReplyT:
        path, timeout_s = AUTH_SERVICE + method, self._timeout_of(timeout)
        try:
            return await self._unary.call(path, request, reply_type, timeout_s, changes=changes)
        except DeadlineExceeded as error:
            if not changes:
                raise
            raise DeadlineExceeded(
                f"{error}; users, roles and tokens were not changed",
                retry_after_s=error.retry_after_s,
            ) from None
        except OutcomeUnknown as error:
            raise OutcomeUnknown(
                f"the change of users, roles or tokens may have been applied, or may be yet"
                f" ({error}); list them before you repeat it"
            ) from None


class AuthMethods(Core):
    """Users, roles and tokens."""

    @property
    def auth(self) -> Auth:
        """Users, roles and service tokens, and whether authentication is enabled."""
        return Auth(self._unary, self._authentication, self._timeout)


def _one_of(kind: type[E], value: str | None, field: str) -> E:
    try:
        return kind(to_text(value or "", field))
    except ValueError:
        raise InvalidRequest(
            f"{field} is {shown(value)}; give one of {', '.join(kind)}", field=field
        ) from None


def _admin_right_number(admin_right: str) -> auth_pb2.AdminRight:
    return ADMIN_RIGHT_NUMBERS[_one_of(AdministrativeRight, admin_right, "admin_right")]


def _refuse_keys(access: object, *ranges: object) -> None:
    if access is not None or any(each is not None for each in ranges):
        raise InvalidRequest(
            "admin_right is given with access or keys; give one or the other", field="admin_right"
        )


def _permission(
    key: str | bytes | None, prefix: str | bytes | None, range_end: str | bytes | None
) -> auth_pb2.Permission:
    """The range of a permission. Raises `InvalidRequest` that names the argument."""
    if prefix is not None:
        if key is not None or range_end is not None:
            raise InvalidRequest(
                "prefix is given with key or range_end; give one or the other", field="prefix"
            )
        first, end = prefix_range(prefix)
        return auth_pb2.Permission(key=first, range_end=end)
    if key is None:
        raise InvalidRequest(
            "no keys are given; give key, key and range_end, prefix, or admin_right", field="key"
        )
    first = to_bytes(key, "key")
    if not first:
        raise InvalidRequest("key is empty; for all keys give prefix=''", field="key")
    end = b"" if range_end is None else to_bytes(range_end, "range_end")
    return auth_pb2.Permission(key=first, range_end=end)

"""The commands that change users, roles, tokens and signing keys, and their rows.

All of it is in memory as `Rights`, and in META under `AUTH_PREFIX`. The commands are deterministic:
the node that takes a request hashes passwords and draws secrets before it proposes the command.

Signing keys (the rows under `auth/key/`) are in the log and in snapshots between nodes, because
every node must accept a token. They are in no backup, and end with a restore: whoever reads a
backup could otherwise sign tokens for the running cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from raftkv.errors import (
    InvalidRequest,
    Overloaded,
    PermissionDenied,
    Refused,
    RoleExists,
    RoleNotFound,
    TokenNotFound,
    UserExists,
    UserNotFound,
)
from raftkv.kv.limits import (
    PERMISSIONS_PER_ROLE_MAX,
    ROLE_BYTES_MAX,
    ROLES_MAX,
    ROLES_PER_USER_MAX,
    TOKEN_TTL_MS_MAX,
    TOKENS_MAX,
    USERS_MAX,
)
from raftkv.kv.overlay import StateReader
from raftkv.kv.rights import ROOT, Access, AdminRight, Rights, need
from raftkv.kv.store import Family
from raftkv.rpc.v1 import auth_pb2
from raftkv.versions import AUTHENTICATED
from raftkv.wire.canonical import auth_row_bytes
from raftkv.wire.ranges import prefix_end

AUTH_PREFIX: Final = b"auth/"
AUTH_STATE_KEY: Final = AUTH_PREFIX + b"state"
_USER: Final = AUTH_PREFIX + b"user/"
_ROLE: Final = AUTH_PREFIX + b"role/"
_TOKEN: Final = AUTH_PREFIX + b"token/"
_KEY: Final = AUTH_PREFIX + b"key/"

SECRET_BYTES_MIN: Final = 32

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
"""Names of users and roles: such a name is safe in a terminal, a log line and a certificate."""

Rows = dict[bytes, bytes | None]
"""Changed rows of META; None deletes a row."""

Key = TypeVar("Key")
Value = TypeVar("Value")


def is_credential(row: bytes) -> bool:
    """Whether this key of META is that of a service token or a signing key: in no backup."""
    return row.startswith((_TOKEN, _KEY))


def read_rights(view: StateReader) -> Rights:
    """The rights as the rows hold them."""
    users: dict[int, auth_pb2.User] = {}
    roles: dict[str, auth_pb2.AuthRole] = {}
    tokens: dict[bytes, auth_pb2.ServiceToken] = {}
    keys: list[auth_pb2.SigningKey] = []
    state = auth_pb2.AuthState()
    for row, value in view.scan(Family.META, AUTH_PREFIX, prefix_end(AUTH_PREFIX)):
        if row == AUTH_STATE_KEY:
            state = auth_pb2.AuthState.FromString(value)
        elif row.startswith(_USER):
            user = auth_pb2.User.FromString(value)
            users[user.id] = user
        elif row.startswith(_ROLE):
            role = auth_pb2.AuthRole.FromString(value)
            roles[role.name] = role
        elif row.startswith(_TOKEN):
            token = auth_pb2.ServiceToken.FromString(value)
            tokens[token.id] = token
        elif row.startswith(_KEY):
            keys.append(auth_pb2.SigningKey.FromString(value))
    keys.sort(key=lambda key: -key.id)
    return Rights(
        enabled=state.enabled,
        revision=state.revision,
        users=users,
        ids={user.name: user.id for user in users.values()},
        roles=roles,
        tokens=tokens,
        signing_keys=tuple(keys),
    )


class AuthChange:
    """One command on top of `before`: the rights after it, and the rows that it changes.

    `caller` is the id of the user who sent it. Raises, with no effect, what forbids the command.
    """

    def __init__(
        self,
        before: Rights,
        command: auth_pb2.AuthCommand,
        caller: int,
        time_ms: int,
        cluster_version: int,
    ) -> None:
        self.rows: Rows = {}
        self._before = before
        self._caller = caller
        self._time_ms = time_ms
        self._revision = before.revision + 1
        if cluster_version < AUTHENTICATED:
            raise Refused(
                f"users and roles need the cluster version {AUTHENTICATED}, and it is"
                f" {cluster_version}: start every member with this version of raftkv"
            )
        kind = command.WhichOneof("command")
        if kind is None:
            raise InvalidRequest("the command on users and roles is not set")
        self.after: Rights = getattr(self, f"_{kind}")(getattr(command, kind))
        if self.after.revision != before.revision:
            self.rows[AUTH_STATE_KEY] = auth_row_bytes(
                auth_pb2.AuthState(enabled=self.after.enabled, revision=self.after.revision)
            )

    # ---- authentication on and off ---------------------------------------------------

    def _enable(self, _: auth_pb2.AuthEnable) -> Rights:
        if self._before.enabled:
            return self._before
        self._require_root("enables authentication")
        return replace(self._before, enabled=True, revision=self._revision)

    def _disable(self, _: auth_pb2.AuthDisable) -> Rights:
        if not self._before.enabled:
            return self._before
        self._require_root("disables authentication")
        return replace(self._before, enabled=False, revision=self._revision)

    def _require_root(self, what: str) -> None:
        if not self._before.grants_of(self._caller).root:
            name = self._before.name_of(self._caller)
            who = f"user {name!r}" if name else "the caller"
            raise PermissionDenied(
                f"only a user with the role {ROOT!r} {what}, and {who} does not have it; add the"
                f" user root, grant it the role root, and authenticate as that user",
                user=name,
                missing=f"the role {ROOT}",
            )

    # ---- users -----------------------------------------------------------------------

    def _user_add(self, request: auth_pb2.UserAdd) -> Rights:
        _check_name("user", request.name)
        users = self._before.users
        if request.name in self._before.ids:
            raise UserExists(f"there is a user {request.name!r} already", user=request.name)
        if len(users) >= USERS_MAX:
            raise Overloaded(f"there are {USERS_MAX} users, as many as there may be; delete some")
        user = auth_pb2.User(
            id=self._revision,
            name=request.name,
            password_hash=request.password_hash,
            credentials=self._revision,
        )
        return self._with_user(user)

    def _user_delete(self, request: auth_pb2.UserDelete) -> Rights:
        before = self._before
        user = self._user(request.name)
        self._protect_root(user)
        self._keep_a_root(user)
        tokens = dict(before.tokens)
        for token in before.tokens.values():
            if token.user == user.id:
                del tokens[token.id]
                self.rows[_TOKEN + token.id] = None
        self.rows[_USER + user.name.encode()] = None
        return replace(
            before,
            revision=self._revision,
            users=_without(before.users, user.id),
            ids=_without(before.ids, user.name),
            tokens=tokens,
            _grants={},
        )

    def _user_set_password(self, request: auth_pb2.UserSetPassword) -> Rights:
        user = self._user(request.name)
        self._protect_root(user)
        user.password_hash = request.password_hash
        user.credentials = self._revision
        return self._with_user(user)

    def _root_reset(self, request: auth_pb2.RootReset) -> Rights:
        if self._caller:
            raise Refused(f"only a node resets the user {ROOT!r}")
        found = self._before.user_named(ROOT)
        user = auth_pb2.User(
            id=found.id if found is not None else self._revision,
            name=ROOT,
            password_hash=request.password_hash,
            roles=sorted({ROOT, *(found.roles if found is not None else ())}),
            credentials=self._revision,
        )
        return self._with_user(user)

    def _user_grant_role(self, request: auth_pb2.UserGrantRole) -> Rights:
        user = self._user(request.name)
        if request.role == ROOT:
            self._require_root_if_enabled()
        else:
            self._role(request.role)
        if request.role in user.roles:
            return self._before
        if len(user.roles) >= ROLES_PER_USER_MAX:
            raise Overloaded(
                f"user {user.name!r} has {ROLES_PER_USER_MAX} roles, as many as a user may have;"
                " grant the permissions to one of them"
            )
        roles = sorted((*user.roles, request.role))
        del user.roles[:]
        user.roles.extend(roles)
        return self._with_user(user)

    def _user_revoke_role(self, request: auth_pb2.UserRevokeRole) -> Rights:
        user = self._user(request.name)
        if request.role not in user.roles:
            raise RoleNotFound(
                f"user {user.name!r} does not have the role {request.role!r}", role=request.role
            )
        if request.role == ROOT:
            self._require_root_if_enabled()
            self._keep_a_root(user)
        user.roles.remove(request.role)
        return self._with_user(user)

    def _user(self, name: str) -> auth_pb2.User:
        """A copy of the user's row."""
        found = self._before.user_named(name)
        if found is None:
            raise UserNotFound(f"there is no user {name!r}", user=name)
        user = auth_pb2.User()
        user.CopyFrom(found)
        return user

    def _keep_a_root(self, user: auth_pb2.User) -> None:
        """Raise `Refused` if the cluster would lose its last user with the role root."""
        others = (each for id, each in self._before.users.items() if id != user.id)
        if (
            self._before.enabled
            and ROOT in user.roles
            and not any(ROOT in each.roles for each in others)
        ):
            raise Refused(
                f"user {user.name!r} is the only one with the role {ROOT!r}, which must not be lost"
                " while authentication is enabled; disable it first, or grant the role to another"
            )

    def _protect_root(self, user: auth_pb2.User) -> None:
        """A user with the right `auth` must not become root by the password of one who is."""
        if ROOT in user.roles:
            self._require_root_if_enabled()

    def _require_root_if_enabled(self) -> None:
        if self._before.enabled:
            self._require_root(f"changes who has the role {ROOT!r}, and users who have it")

    def _with_user(self, user: auth_pb2.User) -> Rights:
        self.rows[_USER + user.name.encode()] = auth_row_bytes(user)
        return replace(
            self._before,
            revision=self._revision,
            users=_with(self._before.users, user.id, user),
            ids=_with(self._before.ids, user.name, user.id),
            _grants={},
        )

    # ---- roles -----------------------------------------------------------------------

    def _role_add(self, request: auth_pb2.RoleAdd) -> Rights:
        _check_name("role", request.name)
        if request.name in self._before.roles or request.name == ROOT:
            raise RoleExists(f"there is a role {request.name!r} already", role=request.name)
        if len(self._before.roles) >= ROLES_MAX:
            raise Overloaded(f"there are {ROLES_MAX} roles, as many as there may be; delete some")
        return self._with_role(auth_pb2.AuthRole(name=request.name))

    def _role_delete(self, request: auth_pb2.RoleDelete) -> Rights:
        before = self._before
        role = self._role(request.name)
        users = dict(before.users)
        for found in before.users.values():
            if role.name in found.roles:
                user = self._user(found.name)
                user.roles.remove(role.name)
                users[user.id] = user
                self.rows[_USER + user.name.encode()] = auth_row_bytes(user)
        self.rows[_ROLE + role.name.encode()] = None
        return replace(
            before,
            revision=self._revision,
            users=users,
            roles=_without(before.roles, role.name),
            _grants={},
        )

    def _role_grant(self, request: auth_pb2.RoleGrant) -> Rights:
        role = self._role(request.role)
        match request.WhichOneof("right"):
            case "permission":
                permission = _checked(request.permission)
                others = _other_permissions(role, permission)
                if len(others) >= PERMISSIONS_PER_ROLE_MAX:
                    raise Overloaded(
                        f"role {role.name!r} has {PERMISSIONS_PER_ROLE_MAX} permissions, as many as"
                        " a role may have; grant wider ranges, or use another role"
                    )
                _set_permissions(role, (*others, permission))
                if len(auth_row_bytes(role)) > ROLE_BYTES_MAX:
                    raise Overloaded(
                        f"the permissions of role {role.name!r} are over {ROLE_BYTES_MAX} bytes;"
                        " use another role, or shorter keys"
                    )
            case "admin_right":
                right = _known(request.admin_right)
                if right is AdminRight.AUTH:
                    self._require_root_if_enabled()
                _set_admin_rights(role, {*role.admin_rights, right})
            case _:
                raise InvalidRequest("the right is not set; give a permission or an admin_right")
        return self._with_role(role)

    def _role_revoke(self, request: auth_pb2.RoleRevoke) -> Rights:
        role = self._role(request.role)
        match request.WhichOneof("right"):
            case "permission":
                others = _other_permissions(role, request.permission)
                if len(others) == len(role.permissions):
                    raise RoleNotFound(
                        f"role {role.name!r} has no permission on exactly this range",
                        role=role.name,
                    )
                _set_permissions(role, others)
            case "admin_right":
                right = _known(request.admin_right)
                if right.value not in role.admin_rights:
                    raise RoleNotFound(
                        f"role {role.name!r} does not have the right {right}", role=role.name
                    )
                _set_admin_rights(role, {*role.admin_rights} - {right})
            case _:
                raise InvalidRequest("the right is not set; give a permission or an admin_right")
        return self._with_role(role)

    def _role(self, name: str) -> auth_pb2.AuthRole:
        """A copy of the role's row."""
        found = self._before.roles.get(name)
        if found is None:
            if name == ROOT:
                raise Refused(f"the role {ROOT!r} is built in: it has every right, for ever")
            raise RoleNotFound(f"there is no role {name!r}", role=name)
        role = auth_pb2.AuthRole()
        role.CopyFrom(found)
        return role

    def _with_role(self, role: auth_pb2.AuthRole) -> Rights:
        self.rows[_ROLE + role.name.encode()] = auth_row_bytes(role)
        return replace(
            self._before,
            revision=self._revision,
            roles=_with(self._before.roles, role.name, role),
            _grants={},
        )

    # ---- tokens ----------------------------------------------------------------------

    def _token_create(self, request: auth_pb2.TokenCreate) -> Rights:
        user = self._user(request.user)
        self._protect_root(user)
        if not request.id or len(request.secret_hash) < SECRET_BYTES_MIN or request.ttl_ms < 0:
            raise InvalidRequest("a token needs an id, the hash of its secret, and a ttl_ms >= 0")
        if request.ttl_ms > TOKEN_TTL_MS_MAX:
            raise InvalidRequest(
                f"ttl_ms is {request.ttl_ms}, the limit is {TOKEN_TTL_MS_MAX}; give a shorter time,"
                " or 0 for a token without end",
                field="ttl_ms",
            )
        if request.id in self._before.tokens:
            raise Refused("there is a token of this id already")
        tokens = dict(self._before.tokens)
        for token in self._before.tokens.values():
            if 0 < token.expires_ms <= self._time_ms:
                del tokens[token.id]
                self.rows[_TOKEN + token.id] = None
        if len(tokens) >= TOKENS_MAX:
            raise Overloaded(f"there are {TOKENS_MAX} tokens, as many as there may be; revoke some")
        created = auth_pb2.ServiceToken(
            id=request.id,
            user=user.id,
            secret_hash=request.secret_hash,
            expires_ms=self._time_ms + request.ttl_ms if request.ttl_ms else 0,
            created_ms=self._time_ms,
        )
        tokens[created.id] = created
        self.rows[_TOKEN + created.id] = auth_row_bytes(created)
        return replace(self._before, revision=self._revision, tokens=tokens)

    def _token_revoke(self, request: auth_pb2.TokenRevoke) -> Rights:
        if request.id not in self._before.tokens:
            raise TokenNotFound("there is no token of this id; it was revoked or has expired")
        self.rows[_TOKEN + request.id] = None
        tokens = _without(self._before.tokens, request.id)
        return replace(self._before, revision=self._revision, tokens=tokens)

    def _signing_key_rotate(self, request: auth_pb2.SigningKeyRotate) -> Rights:
        if self._caller:
            raise Refused("only a node replaces the signing key")
        if len(request.secret) < SECRET_BYTES_MIN:
            raise InvalidRequest(f"a signing key has at least {SECRET_BYTES_MIN} bytes")
        keys = self._before.signing_keys
        newest = keys[0].id if keys else 0
        if request.replaced != newest:
            return self._before  # another node has replaced the same key
        created = auth_pb2.SigningKey(
            id=newest + 1, secret=request.secret, created_ms=self._time_ms
        )
        self.rows[_key_row(created)] = auth_row_bytes(created)
        for old in keys[1:]:
            self.rows[_key_row(old)] = None
        return replace(self._before, signing_keys=(created, *keys[:1]))


def _key_row(key: auth_pb2.SigningKey) -> bytes:
    return _KEY + key.id.to_bytes(8, "big")


def _check_name(what: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} can't be the name of a {what}: use 1 to 128 ASCII letters, digits and"
            " . _ @ + -, with a letter or digit first",
            field="name",
        )


def _checked(permission: auth_pb2.Permission) -> auth_pb2.Permission:
    if permission.access not in Access._value2member_map_:
        raise InvalidRequest("permission.access is not set; use READ, WRITE or READWRITE")
    if permission.range_end not in (b"", b"\0") and permission.range_end <= permission.key:
        raise InvalidRequest("permission.range_end is not above permission.key: the range is empty")
    if not permission.key and not permission.range_end:
        raise InvalidRequest("permission.key is empty; for all keys give the range_end of one zero")
    return permission


def _known(right: int) -> AdminRight:
    try:
        return AdminRight(right)
    except ValueError:
        raise InvalidRequest(f"admin_right {right} is unknown; use one of AdminRight") from None


def _other_permissions(
    role: auth_pb2.AuthRole, permission: auth_pb2.Permission
) -> list[auth_pb2.Permission]:
    """The permissions of the role on other ranges than this one."""
    here = need(Access.READ, permission.key, permission.range_end)
    return [
        each for each in role.permissions if need(Access.READ, each.key, each.range_end) != here
    ]


def _set_permissions(role: auth_pb2.AuthRole, permissions: Iterable[auth_pb2.Permission]) -> None:
    ordered = sorted(permissions, key=lambda each: (each.key, each.range_end))
    changed = auth_pb2.AuthRole(permissions=ordered)  # copies, before the originals go
    role.ClearField("permissions")
    role.MergeFrom(changed)


def _set_admin_rights(role: auth_pb2.AuthRole, rights: Iterable[int]) -> None:
    ordered = sorted(rights)
    del role.admin_rights[:]
    role.admin_rights.extend(ordered)  # type: ignore[arg-type]  # numbers of the enum


def _with(values: Mapping[Key, Value], key: Key, value: Value) -> dict[Key, Value]:
    return {**values, key: value}


def _without(values: Mapping[Key, Any], key: Key) -> dict[Key, Any]:
    return {each: value for each, value in values.items() if each != key}

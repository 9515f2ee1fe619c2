"""Users, roles, service tokens and signing keys, and the commands that change them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from jepsen_lite.model.bounds import (
    AUTHENTICATED_VERSION,
    SECRET_BYTES_MIN,
    TOKEN_TTL_MAX_MS,
    Bounds,
)
from jepsen_lite.model.refusals import Refusal
from jepsen_lite.model.rights import Allowed, needs_of, span
from raftkv.rpc.v1 import auth_pb2, kv_pb2

ROOT: Final = "root"
"""The role that is built in, and the user whom a node's operator may reset."""

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")

OF_NODES: Final = frozenset({"signing_key_rotate", "root_reset"})
"""Commands that a node sends for no user."""


@dataclass(slots=True)
class Users:
    """All of it by name, or by id. `caller` is the id of the user who has sent the command."""

    bounds: Bounds
    enabled: bool = False
    revision: int = 0
    """Of users, roles and tokens."""
    users: dict[str, auth_pb2.User] = field(default_factory=dict)
    roles: dict[str, auth_pb2.AuthRole] = field(default_factory=dict)
    tokens: dict[bytes, auth_pb2.ServiceToken] = field(default_factory=dict)
    keys: list[auth_pb2.SigningKey] = field(default_factory=list)
    """The newest first."""
    caller: int = 0

    # ---- who may do what -------------------------------------------------------------

    def check_allowed(self, command: kv_pb2.Command) -> None:
        """The caller may run the command as rights are now."""
        if not self.enabled:
            return
        kind = command.auth.WhichOneof("command")
        user = self._caller
        if user is None:
            if self.caller or kind not in OF_NODES:
                raise Refusal("UNAUTHENTICATED")
        elif ROOT not in user.roles:
            if kind == "user_set_password" and command.auth.user_set_password.name == user.name:
                return
            allowed = Allowed.by(self.roles[name] for name in user.roles)
            if not all(map(allowed.allows, needs_of(command))):
                raise Refusal("PERMISSION_DENIED")

    @property
    def may_use_any_lease(self) -> bool:
        """Whether the leases and sessions of other users are open to the caller."""
        return not self.enabled or self._caller_is_root

    @property
    def _caller(self) -> auth_pb2.User | None:
        return next((each for each in self.users.values() if each.id == self.caller), None)

    @property
    def _caller_is_root(self) -> bool:
        user = self._caller
        return user is not None and ROOT in user.roles

    # ---- commands --------------------------------------------------------------------

    def change(self, command: auth_pb2.AuthCommand, time_ms: int, version: int) -> None:
        """Carry out the command, which the caller may send."""
        if version < AUTHENTICATED_VERSION:
            raise Refusal("REFUSED")
        kind = command.WhichOneof("command")
        if kind is None:
            raise Refusal("INVALID_REQUEST")
        request = getattr(command, kind)
        if kind == "token_create":
            changed = self._create_token(request, time_ms)
        elif kind == "signing_key_rotate":
            changed = self._rotate(request, time_ms)
        else:
            changes: dict[str, Callable[[Any], bool]] = {
                "enable": self._enable,
                "disable": self._disable,
                "user_add": self._add_user,
                "user_delete": self._delete_user,
                "user_set_password": self._set_password,
                "user_grant_role": self._grant_role,
                "user_revoke_role": self._revoke_role,
                "role_add": self._add_role,
                "role_delete": self._delete_role,
                "role_grant": self._grant,
                "role_revoke": self._revoke,
                "token_revoke": self._revoke_token,
                "root_reset": self._reset_root,
            }
            changed = changes[kind](request)
        self.revision += changed

    # Each returns whether it makes a revision.

    def _enable(self, _: auth_pb2.AuthEnable) -> bool:
        return self._switch(enabled=True)

    def _disable(self, _: auth_pb2.AuthDisable) -> bool:
        return self._switch(enabled=False)

    def _switch(self, *, enabled: bool) -> bool:
        if self.enabled is enabled:
            return False
        self._check_root()
        self.enabled = enabled
        return True

    def _check_root(self) -> None:
        if not self._caller_is_root:
            raise Refusal("PERMISSION_DENIED")

    def _check_root_if_enabled(self) -> None:
        if self.enabled:
            self._check_root()

    def _add_user(self, request: auth_pb2.UserAdd) -> bool:
        _check_name(request.name)
        if request.name in self.users:
            raise Refusal("USER_EXISTS")
        if len(self.users) >= self.bounds.users:
            raise Refusal("OVERLOADED")
        self.users[request.name] = auth_pb2.User(
            id=self.revision + 1,
            name=request.name,
            password_hash=request.password_hash,
            credentials=self.revision + 1,
        )
        return True

    def _user(self, name: str) -> auth_pb2.User:
        if name not in self.users:
            raise Refusal("USER_NOT_FOUND")
        return self.users[name]

    def _protected(self, name: str) -> auth_pb2.User:
        """A user whom only root may change if he has the role root."""
        user = self._user(name)
        if ROOT in user.roles:
            self._check_root_if_enabled()
        return user

    def _check_root_stays(self, user: auth_pb2.User) -> None:
        """While authentication is enabled, one user at least has the role root."""
        roots = [each for each in self.users.values() if ROOT in each.roles]
        if self.enabled and roots == [user]:
            raise Refusal("REFUSED")

    def _delete_user(self, request: auth_pb2.UserDelete) -> bool:
        user = self._protected(request.name)
        self._check_root_stays(user)
        del self.users[user.name]
        self.tokens = {id: each for id, each in self.tokens.items() if each.user != user.id}
        return True

    def _set_password(self, request: auth_pb2.UserSetPassword) -> bool:
        user = self._protected(request.name)
        user.password_hash = request.password_hash
        user.credentials = self.revision + 1
        return True

    def _reset_root(self, request: auth_pb2.RootReset) -> bool:
        if self.caller:
            raise Refusal("REFUSED")
        user = self.users.setdefault(ROOT, auth_pb2.User(id=self.revision + 1, name=ROOT))
        user.password_hash = request.password_hash
        user.credentials = self.revision + 1
        user.roles[:] = sorted({*user.roles, ROOT})
        return True

    def _grant_role(self, request: auth_pb2.UserGrantRole) -> bool:
        user = self._user(request.name)
        if request.role == ROOT:
            self._check_root_if_enabled()
        else:
            self._role(request.role)
        if request.role in user.roles:
            return False
        if len(user.roles) >= self.bounds.roles_per_user:
            raise Refusal("OVERLOADED")
        user.roles[:] = sorted([*user.roles, request.role])
        return True

    def _revoke_role(self, request: auth_pb2.UserRevokeRole) -> bool:
        user = self._user(request.name)
        if request.role not in user.roles:
            raise Refusal("ROLE_NOT_FOUND")
        if request.role == ROOT:
            self._check_root_if_enabled()
            self._check_root_stays(user)
        user.roles.remove(request.role)
        return True

    # ---- roles -----------------------------------------------------------------------

    def _add_role(self, request: auth_pb2.RoleAdd) -> bool:
        _check_name(request.name)
        if request.name in (*self.roles, ROOT):
            raise Refusal("ROLE_EXISTS")
        if len(self.roles) >= self.bounds.roles:
            raise Refusal("OVERLOADED")
        self.roles[request.name] = auth_pb2.AuthRole(name=request.name)
        return True

    def _role(self, name: str) -> auth_pb2.AuthRole:
        if name not in self.roles:
            raise Refusal("REFUSED" if name == ROOT else "ROLE_NOT_FOUND")
        return self.roles[name]

    def _delete_role(self, request: auth_pb2.RoleDelete) -> bool:
        del self.roles[self._role(request.name).name]
        for user in self.users.values():
            user.roles[:] = [each for each in user.roles if each != request.name]
        return True

    def _grant(self, request: auth_pb2.RoleGrant) -> bool:
        role = self._role(request.role)
        match request.WhichOneof("right"):
            case "permission":
                permission = request.permission
                _check_permission(permission)
                others = _elsewhere(role, permission)
                if len(others) >= self.bounds.permissions_per_role:
                    raise Refusal("OVERLOADED")
                _replace_permissions(role, [*others, permission])
            case "admin_right":
                _check_admin_right(request.admin_right)
                if request.admin_right == auth_pb2.ADMIN_RIGHT_AUTH:
                    self._check_root_if_enabled()
                role.admin_rights[:] = sorted({*role.admin_rights, request.admin_right})
            case _:
                raise Refusal("INVALID_REQUEST")
        return True

    def _revoke(self, request: auth_pb2.RoleRevoke) -> bool:
        role = self._role(request.role)
        match request.WhichOneof("right"):
            case "permission":
                others = _elsewhere(role, request.permission)
                if len(others) == len(role.permissions):
                    raise Refusal("ROLE_NOT_FOUND")
                _replace_permissions(role, others)
            case "admin_right":
                _check_admin_right(request.admin_right)
                if request.admin_right not in role.admin_rights:
                    raise Refusal("ROLE_NOT_FOUND")
                role.admin_rights.remove(request.admin_right)
            case _:
                raise Refusal("INVALID_REQUEST")
        return True

    # ---- tokens ----------------------------------------------------------------------

    def _create_token(self, request: auth_pb2.TokenCreate, time_ms: int) -> bool:
        """Tokens that have expired make room."""
        user = self._protected(request.user)
        is_valid = request.id and len(request.secret_hash) >= SECRET_BYTES_MIN
        if not is_valid or not 0 <= request.ttl_ms <= TOKEN_TTL_MAX_MS:
            raise Refusal("INVALID_REQUEST")
        if request.id in self.tokens:
            raise Refusal("REFUSED")
        living = {
            id: each
            for id, each in self.tokens.items()
            if not each.expires_ms or time_ms < each.expires_ms
        }
        if len(living) >= self.bounds.tokens:
            raise Refusal("OVERLOADED")
        self.tokens = living
        self.tokens[request.id] = auth_pb2.ServiceToken(
            id=request.id,
            user=user.id,
            secret_hash=request.secret_hash,
            expires_ms=time_ms + request.ttl_ms if request.ttl_ms else 0,
            created_ms=time_ms,
        )
        return True

    def _revoke_token(self, request: auth_pb2.TokenRevoke) -> bool:
        if request.id not in self.tokens:
            raise Refusal("TOKEN_NOT_FOUND")
        del self.tokens[request.id]
        return True

    def _rotate(self, request: auth_pb2.SigningKeyRotate, time_ms: int) -> bool:
        """The newest key stays as the second one. To replace any other one is to do nothing."""
        if self.caller:
            raise Refusal("REFUSED")
        if len(request.secret) < SECRET_BYTES_MIN:
            raise Refusal("INVALID_REQUEST")
        newest = self.keys[0].id if self.keys else 0
        if request.replaced == newest:
            created = auth_pb2.SigningKey(id=newest + 1, secret=request.secret, created_ms=time_ms)
            self.keys = [created, *self.keys[:1]]
        return False


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise Refusal("INVALID_REQUEST")


def _check_permission(permission: auth_pb2.Permission) -> None:
    """It has an access, and at least one key."""
    key, range_end = permission.key, permission.range_end
    has_keys = bool(key) if not range_end else range_end == b"\0" or range_end > key
    if permission.access not in auth_pb2.Access.values() or not permission.access or not has_keys:
        raise Refusal("INVALID_REQUEST")


def _check_admin_right(right: int) -> None:
    if right not in auth_pb2.AdminRight.values() or not right:
        raise Refusal("INVALID_REQUEST")


def _elsewhere(
    role: auth_pb2.AuthRole, permission: auth_pb2.Permission
) -> list[auth_pb2.Permission]:
    """The permissions of the role on other ranges than this one."""
    here = span(permission.key, permission.range_end)
    return [each for each in role.permissions if span(each.key, each.range_end) != here]


def _replace_permissions(role: auth_pb2.AuthRole, permissions: list[auth_pb2.Permission]) -> None:
    replaced = auth_pb2.AuthRole(name=role.name, admin_rights=role.admin_rights)
    replaced.permissions.extend(sorted(permissions, key=lambda each: (each.key, each.range_end)))
    role.CopyFrom(replaced)

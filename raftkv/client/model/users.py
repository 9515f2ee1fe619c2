"""Users, roles, permissions and tokens as immutable values, and their decoding."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from raftkv.rpc.v1 import api_pb2, auth_pb2


class KeyAccess(enum.StrEnum):
    """Kinds of access to keys."""

    READ = "read"
    WRITE = "write"
    READWRITE = "readwrite"


class AdministrativeRight(enum.StrEnum):
    """Rights that do not concern keys. The role `root` has all of them.

    `CLUSTER`: change the membership, transfer the leadership. `MAINTENANCE`: compact, set the log
    level. `AUTH`: change users, roles and tokens. `SESSIONS`: list and inspect the leases of other
    users.
    """

    CLUSTER = "cluster"
    MAINTENANCE = "maintenance"
    AUTH = "auth"
    SESSIONS = "sessions"


@dataclass(frozen=True, slots=True)
class Permission:
    """KeyAccess to the keys from `key` up to, and without, `range_end`.

    `range_end` is empty for the one key, and `b"\\0"` for all keys from `key` on.
    """

    access: KeyAccess
    key: bytes
    range_end: bytes = b""


@dataclass(frozen=True, slots=True)
class UserInfo:
    """A user. One without a password uses service tokens or a certificate."""

    name: str
    roles: tuple[str, ...]
    has_password: bool


@dataclass(frozen=True, slots=True)
class RoleInfo:
    """A role: what its users may do."""

    name: str
    permissions: tuple[Permission, ...]
    admin_rights: tuple[AdministrativeRight, ...]


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A service token, without its secret. `left_s` is the rest of its life; None: without end."""

    id: str
    user: str
    left_s: float | None


@dataclass(frozen=True, slots=True)
class NewToken:
    """A service token that was just created. The cluster can't show `token` again.

    `token` is not in the `repr`.
    """

    id: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AuthStatus:
    """Whether authentication is enabled, and as whom the cluster has authenticated the caller."""

    enabled: bool
    auth_revision: int  # of users, roles and tokens; each change increases it
    user: str  # empty: the caller is not authenticated


_ACCESS = {
    auth_pb2.ACCESS_READ: KeyAccess.READ,
    auth_pb2.ACCESS_WRITE: KeyAccess.WRITE,
    auth_pb2.ACCESS_READWRITE: KeyAccess.READWRITE,
}
_ADMIN_RIGHTS = {
    auth_pb2.ADMIN_RIGHT_CLUSTER: AdministrativeRight.CLUSTER,
    auth_pb2.ADMIN_RIGHT_MAINTENANCE: AdministrativeRight.MAINTENANCE,
    auth_pb2.ADMIN_RIGHT_AUTH: AdministrativeRight.AUTH,
    auth_pb2.ADMIN_RIGHT_SESSIONS: AdministrativeRight.SESSIONS,
}
ACCESS_NUMBERS = {access: number for number, access in _ACCESS.items()}
ADMIN_RIGHT_NUMBERS = {right: number for number, right in _ADMIN_RIGHTS.items()}


def user_info(message: api_pb2.UserInfo) -> UserInfo:
    """A user of a reply."""
    return UserInfo(message.name, tuple(message.roles), message.has_password)


def role_info(message: auth_pb2.AuthRole) -> RoleInfo:
    """A role of a reply. Kinds of rights that only a newer release knows are left out."""
    return RoleInfo(
        message.name,
        tuple(
            Permission(_ACCESS[each.access], each.key, each.range_end)
            for each in message.permissions
            if each.access in _ACCESS
        ),
        tuple(_ADMIN_RIGHTS[each] for each in message.admin_rights if each in _ADMIN_RIGHTS),
    )


def token_info(message: api_pb2.TokenInfo) -> TokenInfo:
    """A service token of a reply."""
    left_s = None if message.left_ms < 0 else message.left_ms / 1_000
    return TokenInfo(message.id, message.user, left_s)

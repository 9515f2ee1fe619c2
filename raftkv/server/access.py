"""What each call on the client port needs of its caller: one row for every RPC of every service."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as REFLECTION

from raftkv.config import Settings
from raftkv.kv.rights import (
    ROOT_NEED,
    AdminRight,
    AnyNeed,
    Rights,
    needs_of_lock,
)
from raftkv.rpc.v1 import api_pb2

NeedsOf: TypeAlias = Callable[[Any], Iterable[AnyNeed]]

PACKAGE: Final = api_pb2.DESCRIPTOR.package
HEALTH: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class CheckTime(enum.Enum):
    """When the rights of the caller are checked. The texts are those of the documentation."""

    CALL = "when the call arrives"
    WAIT = "when the call arrives, and whenever rights change while it waits"
    READ = "after the read barrier, on the state that is read"
    COMMAND = "when the command arrives; again when it is applied, if rights have changed since"
    MESSAGE = "for each message, as for the calls above"
    PART = "when the call arrives, and before each part of the backup"
    WATCH = "when the watch is created, and whenever rights change while it lasts"


def _nothing(_: object) -> tuple[()]:
    return ()


def _never(*_: object) -> bool:
    return False


def _always(*_: object) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a call needs. `summary` is for the documentation."""

    summary: str
    checked: CheckTime = CheckTime.CALL
    needs: NeedsOf = _nothing
    """The rights that the user needs for a request, beside being authenticated: those that are
    checked when the call arrives.
    """

    own: Callable[[Any, Rights, int], bool] = _never
    """Whether the request concerns only the user of this id, who then needs no right for it."""

    node: Callable[[Any, int], bool] = _never
    """Whether the node of this id, which has proven it by its certificate, may send the request."""

    open: Callable[[Settings], bool] = _never
    """Whether callers that are not authenticated may make the call."""


def _admin(right: AdminRight, **fields: Any) -> Requirement:
    summary = fields.pop("summary", f"the right `{right}`")
    return Requirement(summary, needs=lambda _: (right,), **fields)


def _owns_name(request: Any, rights: Rights, user: int) -> bool:
    return bool(request.name) and rights.ids.get(request.name) == user


def _has_role(request: Any, rights: Rights, user: int) -> bool:
    return request.name in rights.users[user].roles if user in rights.users else False


_USER: Final = Requirement("an authenticated user")
_CLUSTER: Final = _admin(AdminRight.CLUSTER)
_AUTH: Final = _admin(AdminRight.AUTH)
_HEALTH: Final = Requirement(
    "nothing; with `open_health` false, an authenticated user",
    open=lambda settings: settings.open_health,
)

_OF_SERVICES: Final[Mapping[str, Mapping[str, Requirement]]] = {
    f"{PACKAGE}.KV": {
        "Execute": Requirement("what the command needs", CheckTime.COMMAND),
        "Range": Requirement("read access to the range", CheckTime.READ),
        "ReadTransaction": Requirement(
            "read access to all keys of all compares and of both branches", CheckTime.READ
        ),
    },
    f"{PACKAGE}.Pipeline": {
        "Open": Requirement(
            "an authenticated user; each command and read what it needs in `KV`", CheckTime.MESSAGE
        ),
    },
    f"{PACKAGE}.Watch": {
        "Open": Requirement(
            "an authenticated user; each watch read access to all of its range", CheckTime.WATCH
        ),
    },
    f"{PACKAGE}.Lease": {
        "KeepAlive": Requirement(
            "an authenticated user, to whom the leases were granted; any user for leases without"
            " an owner; `root` for all",
            CheckTime.MESSAGE,
        ),
        "TimeToLive": Requirement(
            "the user to whom the lease was granted; any user for a lease without an owner; the"
            " right `sessions` or `root` for all. Keys without read access are left out",
            CheckTime.READ,
        ),
        "List": Requirement(
            "an authenticated user, for leases of the user and without an owner; the right"
            " `sessions` or `root` for all",
            CheckTime.READ,
        ),
    },
    f"{PACKAGE}.Lock": {
        "Wait": Requirement(
            "read access to the range of the queue, from `<name>/0` to `<name>/8`",
            CheckTime.WAIT,
            needs=lambda request: (needs_of_lock(request.name),),
        ),
        "Info": Requirement("read access to the range of the queue", CheckTime.READ),
    },
    f"{PACKAGE}.Cluster": {
        "Status": _USER,
        "MemberList": Requirement(
            "an authenticated user, or the certificate of a node of this cluster", node=_always
        ),
        "MemberAdd": _CLUSTER,
        "MemberPromote": _CLUSTER,
        "MemberRemove": _CLUSTER,
        "MemberReplace": _CLUSTER,
        "MemberUpdate": _CLUSTER,
        "MemberJoin": _admin(
            AdminRight.CLUSTER,
            summary="the right `cluster`, or the certificate of exactly the node that joins",
            node=lambda request, node_id: request.node_id == node_id,
        ),
        "TransferLeader": _CLUSTER,
        "SetLogLevel": _admin(AdminRight.MAINTENANCE),
        "ReloadConfig": _CLUSTER,
    },
    f"{PACKAGE}.Maintenance": {
        "Backup": Requirement(
            "a user with the role `root`: a backup has all keys, and the hashes of all passwords",
            CheckTime.PART,
            needs=lambda _: (ROOT_NEED,),
        ),
    },
    f"{PACKAGE}.Auth": {
        "Authenticate": Requirement("nothing but the password in it", open=_always),
        "Enable": _admin(AdminRight.AUTH, summary="a user with the role `root`"),
        "Disable": _admin(AdminRight.AUTH, summary="a user with the role `root`"),
        "Status": _USER,
        "UserAdd": _AUTH,
        "UserGet": _admin(
            AdminRight.AUTH,
            summary="the right `auth`, but for the caller's own user",
            own=_owns_name,
        ),
        "UserList": _AUTH,
        "UserDelete": _AUTH,
        "UserSetPassword": _admin(
            AdminRight.AUTH,
            summary="the right `auth`, but for the caller's own password",
            own=_owns_name,
        ),
        "UserGrantRole": _AUTH,
        "UserRevokeRole": _AUTH,
        "RoleAdd": _AUTH,
        "RoleGet": _admin(
            AdminRight.AUTH,
            summary="the right `auth`, but for a role that the caller has",
            own=_has_role,
        ),
        "RoleList": _AUTH,
        "RoleDelete": _AUTH,
        "RoleGrant": _AUTH,
        "RoleRevoke": _AUTH,
        "TokenCreate": _AUTH,
        "TokenList": _AUTH,
        "TokenRevoke": _AUTH,
    },
    HEALTH: {"Check": _HEALTH, "List": _HEALTH, "Watch": _HEALTH},
    REFLECTION: {
        "ServerReflectionInfo": Requirement(
            "an authenticated user; with `open_reflection`, nothing",
            open=lambda settings: settings.open_reflection,
        ),
    },
}

ACCESS: Final[Mapping[str, Requirement]] = {
    f"/{service}/{method}": requirement
    for service, methods in _OF_SERVICES.items()
    for method, requirement in methods.items()
}
"""The requirement of every RPC, by its path."""

HAS_NODES: Final = frozenset(
    path for path, requirement in ACCESS.items() if requirement.node is not _never
)
"""The RPCs that a node may call with its certificate."""


def rpc_path(service: str, method: str) -> str:
    """The path of an RPC of ours, as gRPC names it."""
    return f"/{PACKAGE}.{service}/{method}"


def name_of_rpc(path: str) -> str:
    """The name of an RPC for people: `KV.Range`."""
    return path[1:].removeprefix(f"{PACKAGE}.").replace("/", ".")

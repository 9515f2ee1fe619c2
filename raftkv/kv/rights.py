"""Rights: what a request needs, and what the roles of a user allow.

The rights of a user are the union of those of the user's roles. The role `root` allows everything,
also what belongs to other users. A request is allowed if each of its needs lies within the union of
the ranges that the user may access in this way. The same functions decide when a node takes a
request and when a command is applied.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from raftkv.errors import Outcome, PermissionDenied, RaftkvError, Unauthenticated, printable
from raftkv.rpc.v1 import auth_pb2, kv_pb2
from raftkv.wire.lock_keys import queue_bounds
from raftkv.wire.ranges import exclusive_end

ROOT: Final = "root"
"""The role, and by convention the user, that may do everything."""


class Access(enum.IntFlag):
    """Kinds of access to keys. The numbers are those of the wire."""

    READ = 1
    WRITE = 2
    READWRITE = 3

    def __str__(self) -> str:
        return (self.name or "").lower()


class AdminRight(enum.IntEnum):
    """Rights that do not concern keys. The numbers are those of the wire."""

    CLUSTER = 1
    MAINTENANCE = 2
    AUTH = 3
    SESSIONS = 4

    def __str__(self) -> str:
        return self.name.lower()


class Need(NamedTuple):
    """Access to all keys of [key, end); `end` None: of all keys from `key` on."""

    access: Access
    key: bytes
    end: bytes | None

    def __str__(self) -> str:
        if self.end == self.key + b"\0":
            return f"{self.access} access to the key {printable(self.key)!r}"
        end = "the last key" if self.end is None else repr(printable(self.end))
        return f"{self.access} access to the keys from {printable(self.key)!r} to {end}"


class RoleNeed(NamedTuple):
    """The need of a role that has every right, which no other rights make up for."""

    role: str

    def __str__(self) -> str:
        return f"the role {self.role}"


AnyNeed: TypeAlias = "Need | AdminRight | RoleNeed"
Needs: TypeAlias = Iterator[AnyNeed]

ROOT_NEED: Final = RoleNeed(ROOT)


def need(access: Access, key: bytes, range_end: bytes = b"") -> Need:
    """The need of a request on the wire's key and range_end. An empty range counts as its key."""
    end = exclusive_end(key, range_end) if range_end else key
    return Need(access, key, None if end is None else max(end, key + b"\0"))


def needs_of_command(command: kv_pb2.Command) -> Needs:
    """What a command needs, whichever branch of a transaction it takes.

    Leases and sessions are not among it: they belong to users, and `Leases` checks that.
    """
    for fence in command.fences:
        yield _queue_need(Access.READ, fence.name)
    match command.WhichOneof("command"):
        case "put":
            yield _put_need(command.put)
        case "delete_range":
            yield _delete_need(command.delete_range)
        case "transaction":
            yield from needs_of_transaction(command.transaction)
        case "compare_and_swap":
            yield need(Access.READWRITE, command.compare_and_swap.key)
        case "acquire":
            yield _queue_need(Access.READWRITE, command.acquire.name)
        case "compact":
            yield AdminRight.MAINTENANCE
        case "auth":
            yield AdminRight.AUTH


def needs_of_range(request: kv_pb2.Range) -> Need:
    """What a read of a range needs."""
    return need(Access.READ, request.key, request.range_end)


def needs_of_transaction(transaction: kv_pb2.Transaction) -> Needs:
    """What all compares and both branches of a transaction need."""
    for compare in transaction.compare:
        yield need(Access.READ, compare.key, compare.range_end)
    for operation in (*transaction.success, *transaction.failure):
        match operation.WhichOneof("operation"):
            case "range":
                yield needs_of_range(operation.range)
            case "put":
                yield _put_need(operation.put)
            case "delete_range":
                yield _delete_need(operation.delete_range)
            case "transaction":
                yield from needs_of_transaction(operation.transaction)


def needs_of_lock(name: bytes) -> Need:
    """What a read of a lock's queue, or a wait in it, needs."""
    return _queue_need(Access.READ, name)


def _put_need(put: kv_pb2.Put) -> Need:
    # What is kept fails with KeyNotFound where there is no key, so it reads whether there is one.
    reads = put.prev_kv or put.ignore_value or put.ignore_lease
    return need(Access.READWRITE if reads else Access.WRITE, put.key)


def _delete_need(request: kv_pb2.DeleteRange) -> Need:
    access = Access.READWRITE if request.prev_kv else Access.WRITE
    return need(access, request.key, request.range_end)


def _queue_need(access: Access, name: bytes) -> Need:
    return Need(access, *queue_bounds(name))


# ---- what a user may do --------------------------------------------------------------


class KeyRanges:
    """A union of ranges of keys."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[tuple[bytes, bytes | None]]) -> None:
        self._starts: list[bytes] = []
        self._ends: list[bytes | None] = []
        for start, end in sorted(ranges, key=lambda each: each[0]):
            if self._starts:
                last = self._ends[-1]
                if last is None:
                    return
                if start <= last:
                    self._ends[-1] = None if end is None else max(last, end)
                    continue
            self._starts.append(start)
            self._ends.append(end)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KeyRanges):
            return NotImplemented
        return (self._starts, self._ends) == (other._starts, other._ends)

    def contains_key(self, key: bytes) -> bool:
        at = bisect_right(self._starts, key) - 1
        if at < 0:
            return False
        end = self._ends[at]
        return end is None or key < end

    def contain(self, key: bytes, end: bytes | None) -> bool:
        """Whether every key of [key, end) is in the union."""
        at = bisect_right(self._starts, key) - 1
        if at < 0:
            return False
        last = self._ends[at]
        return last is None or (end is not None and end <= last)


class Grants:
    """The rights of one user."""

    __slots__ = ("admin_rights", "read", "root", "write")

    def __init__(self, roles: Iterable[auth_pb2.AuthRole], *, root: bool = False) -> None:
        roles = tuple(roles)
        self.root = root
        self.admin_rights = frozenset(AdminRight(r) for role in roles for r in role.admin_rights)
        permissions = [each for role in roles for each in role.permissions]
        self.read = KeyRanges(_ranges(permissions, Access.READ))
        self.write = KeyRanges(_ranges(permissions, Access.WRITE))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grants):
            return NotImplemented
        return all(getattr(self, each) == getattr(other, each) for each in self.__slots__)

    def missing(self, needs: Iterable[AnyNeed]) -> AnyNeed | None:
        """The first need that the rights do not allow, None if they allow all."""
        if self.root:
            return None
        for each in needs:
            if isinstance(each, RoleNeed):
                return each
            if isinstance(each, AdminRight):
                if each not in self.admin_rights:
                    return each
            elif (each.access & Access.READ and not self.read.contain(each.key, each.end)) or (
                each.access & Access.WRITE and not self.write.contain(each.key, each.end)
            ):
                return each
        return None

    def allow_command(self, command: kv_pb2.Command) -> bool:
        """Whether the rights allow all that the command needs."""
        put = command.put  # of another command: an empty one
        key = put.key
        if key and not (put.prev_kv or put.ignore_value or put.ignore_lease or command.fences):
            return self.root or self.write.contains_key(key)
        return self.missing(needs_of_command(command)) is None


def _ranges(
    permissions: Iterable[auth_pb2.Permission], access: Access
) -> Iterator[tuple[bytes, bytes | None]]:
    for permission in permissions:
        if permission.access & access:
            _, key, end = need(access, permission.key, permission.range_end)
            yield key, end


_NO_GRANTS: Final = Grants(())

_OF_NODES: Final = ("signing_key_rotate", "root_reset")
"""The commands that a node proposes for no user. A client can send neither."""


@dataclass(frozen=True, slots=True)
class Rights:
    """All users, roles, tokens and signing keys, as of `revision`. Never changed, only replaced.

    `revision` counts the changes of everything but signing keys.
    """

    enabled: bool = False
    revision: int = 0
    users: Mapping[int, auth_pb2.User] = field(default_factory=dict, repr=False)
    ids: Mapping[str, int] = field(default_factory=dict)
    """The id of each user by name."""
    roles: Mapping[str, auth_pb2.AuthRole] = field(default_factory=dict)
    tokens: Mapping[bytes, auth_pb2.ServiceToken] = field(default_factory=dict, repr=False)
    signing_keys: tuple[auth_pb2.SigningKey, ...] = field(default=(), repr=False)
    """The one that signs, then the one before it."""
    _grants: dict[int, Grants] = field(default_factory=dict, compare=False, repr=False)
    """The rights of users who have been asked for."""

    def user_named(self, name: str) -> auth_pb2.User | None:
        return self.users.get(self.ids.get(name, 0))

    def name_of(self, user: int) -> str:
        """The name of a user; empty if there is none of this id."""
        found = self.users.get(user)
        return found.name if found is not None else ""

    def root_user(self) -> int:
        """The id of a user with the role root. There is one while authentication is enabled; 0: it
        is disabled.
        """
        if not self.enabled:
            return 0
        return min((id for id, user in self.users.items() if ROOT in user.roles), default=0)

    def grants_of(self, user: int) -> Grants:
        """The rights of a user, those of no role at all for an id without a user."""
        grants = self._grants.get(user)
        if grants is None:
            found = self.users.get(user)
            if found is None:
                return _NO_GRANTS
            roles = [self.roles[name] for name in found.roles if name != ROOT]
            grants = self._grants[user] = Grants(roles, root=ROOT in found.roles)
        return grants

    def require(self, user: int, needs: Iterable[AnyNeed]) -> None:
        """Raise `Unauthenticated` or `PermissionDenied` unless the user has the rights, or
        authentication is not enabled.
        """
        if self.enabled:
            error = self._refusal(user, needs)
            if error is not None:
                raise error

    def refusal_of_command(self, user: int, command: kv_pb2.Command) -> RaftkvError | None:
        """Why the user may not run the command; None if it is allowed."""
        if not self.enabled:
            return None
        if user in self.users:
            if self.grants_of(user).allow_command(command) or self._is_own(user, command):
                return None
        elif not user and command.auth.WhichOneof("command") in _OF_NODES:
            return None
        return self._refusal(user, needs_of_command(command))

    def _is_own(self, user: int, command: kv_pb2.Command) -> bool:
        """Whether the command changes the user's own password."""
        name = command.auth.user_set_password.name  # of another command: empty
        return bool(name) and self.ids.get(name) == user

    def _refusal(self, user: int, needs: Iterable[AnyNeed]) -> RaftkvError | None:
        if user not in self.users:
            return unauthenticated()
        missing = self.grants_of(user).missing(needs)
        return None if missing is None else self._denied(user, missing)

    def _denied(self, user: int, missing: AnyNeed) -> PermissionDenied:
        name = self.name_of(user)
        what = f"the right {missing}" if isinstance(missing, AdminRight) else str(missing)
        return PermissionDenied(
            f"user {name!r} lacks {what}; ask an administrator to grant it to one of the user's"
            " roles",
            user=name,
            missing=what,
        )


def unauthenticated() -> Unauthenticated:
    """The error of a caller without a valid user."""
    return Unauthenticated(
        "this cluster requires authentication, and the caller is not authenticated as a user of"
        " it; give a user and password, a token, or a user's certificate"
    )


def withheld(error: RaftkvError) -> RaftkvError:
    """The refusal of a repeated command that has run before: its result is not for this caller."""
    hidden = type(error)(
        f"{error.message}. The command may have been applied when it was first sent"
    )
    hidden.facts, hidden.outcome = error.facts, Outcome.MAYBE_APPLIED
    return hidden

"""Users of a fake node: the caller's tokens, and changes of rights as they are applied."""

from __future__ import annotations

from typing import Any

from fake_node import FakeNode

from raftkv.kv.rights import ROOT, Access, AdminRight
from raftkv.peer.ports import Author
from raftkv.rpc.v1 import auth_pb2 as auth
from raftkv.rpc.v1 import kv_pb2
from raftkv.server.authentication import new_service_token
from raftkv.versions import AUTHENTICATED

Metadata = tuple[tuple[str, str], ...]


def authorization(token: str) -> Metadata:
    """The metadata of a call with this bearer token."""
    return (("authorization", f"Bearer {token}"),)


class Users:
    """`root`; `app` may read and write [a, b); `reader` may read it; `ops` may do nothing."""

    def __init__(self, node: FakeNode, *, enabled: bool = True) -> None:
        self._node = node
        if node.machine.cluster_version < AUTHENTICATED:
            node.raise_version(AUTHENTICATED)
        self.tokens: dict[str, str] = {}
        self.add(ROOT, ROOT)
        for name, access in (("app", Access.READWRITE), ("reader", Access.READ)):
            self.change(role_add=auth.RoleAdd(name=name))
            self.grant(name, access, b"a", b"b")
            self.add(name, name)
        self.add("ops")
        if enabled:
            self.enable()

    def enable(self) -> None:
        self.change(enable=auth.AuthEnable())

    def add(self, name: str, *roles: str) -> None:
        """Add a user with a service token."""
        self.change(user_add=auth.UserAdd(name=name))
        for role in roles:
            self.change(user_grant_role=auth.UserGrantRole(name=name, role=role))
        self.add_token(name)

    def add_token(self, name: str, ttl_ms: int = 0) -> None:
        """Give the user another service token."""
        token = new_service_token()
        self.change(
            token_create=auth.TokenCreate(
                id=token.id, user=name, secret_hash=token.secret_hash, ttl_ms=ttl_ms
            )
        )
        self.tokens[name] = token.text

    def grant(self, role: str, access: Access, key: bytes, range_end: bytes = b"") -> None:
        permission = auth.Permission(access=access.value, key=key, range_end=range_end)
        self.change(role_grant=auth.RoleGrant(role=role, permission=permission))

    def give(self, name: str, right: AdminRight) -> None:
        """Give the user an administrative right, by a role of its own."""
        role = f"{name}-{right}"
        self.change(role_add=auth.RoleAdd(name=role))
        self.change(role_grant=auth.RoleGrant(role=role, admin_right=right.value))
        self.change(user_grant_role=auth.UserGrantRole(name=name, role=role))

    def withdraw(self, name: str) -> None:
        """Take the user's role of the same name away."""
        self.change(user_revoke_role=auth.UserRevokeRole(name=name, role=name))

    def restore(self, name: str) -> None:
        """Undo `withdraw`."""
        self.change(user_grant_role=auth.UserGrantRole(name=name, role=name))

    def change(self, **command: Any) -> None:
        """Apply a change of rights, as root."""
        (result,) = self._node.run(self.command(**command), author=self.author(ROOT)).results
        assert not result.HasField("failure"), result.failure

    @staticmethod
    def command(**command: Any) -> kv_pb2.Command:
        return kv_pb2.Command(auth=auth.AuthCommand(**command))

    def author(self, name: str) -> Author:
        """The author of what the user submits now."""
        rights = self._node.machine.rights
        return Author(rights.ids.get(name, 0), rights.revision)

    def of(self, name: str) -> Metadata:
        """The metadata of a user's calls; of no user for an empty name."""
        return authorization(self.tokens[name]) if name else ()

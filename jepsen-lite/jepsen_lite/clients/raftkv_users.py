"""The adapter of raftkv's users and roles to the harness's `UserClient`."""

from __future__ import annotations

from jepsen_lite.clients.raftkv_commands import bytes_of
from jepsen_lite.clients.raftkv_errors import mapped_errors
from raftkv.client.client import Client

NO_END = b"\0"


class RaftkvUsers:
    """A `UserClient`."""

    def __init__(self, client: Client) -> None:
        self._auth = client.auth

    async def enable(self, *, timeout_s: float) -> None:
        with mapped_errors():
            await self._auth.enable(timeout=timeout_s)

    async def disable(self, *, timeout_s: float) -> None:
        with mapped_errors():
            await self._auth.disable(timeout=timeout_s)

    async def add_user(self, name: str, password: str, *, timeout_s: float) -> None:
        with mapped_errors():
            await self._auth.user_add(name, password, timeout=timeout_s)

    async def grant_role(self, user: str, role: str, *, timeout_s: float) -> None:
        with mapped_errors():
            await self._auth.user_grant_role(user, role, timeout=timeout_s)

    async def add_role(self, role: str, *, timeout_s: float) -> None:
        with mapped_errors():
            await self._auth.role_add(role, timeout=timeout_s)

    async def delete_role(self, role: str, *, timeout_s: float) -> None:
        with mapped_errors():
            await self._auth.role_delete(role, timeout=timeout_s)

    async def grant_access(
        self, role: str, access: str, start: str, end: str, *, timeout_s: float
    ) -> None:
        with mapped_errors():
            await self._auth.role_grant(
                role,
                access,
                key=bytes_of(start),
                range_end=bytes_of(end) or NO_END,
                timeout=timeout_s,
            )

    async def grant_admin_right(self, role: str, right: str, *, timeout_s: float) -> None:
        with mapped_errors():
            await self._auth.role_grant(role, admin_right=right, timeout=timeout_s)

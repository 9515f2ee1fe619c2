"""`raftkv role`: adds, lists and deletes roles, and changes what their users may do."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raftkv.cli import client_command
from raftkv.cli.client_command import Output, options_of
from raftkv.cli.kv_commands import argument_bytes
from raftkv.cli.output import json_bytes, print_json, print_values
from raftkv.errors import InvalidRequest, printable

if TYPE_CHECKING:
    from raftkv.client.model.users import Permission, RoleInfo

app = typer.Typer(no_args_is_help=True, help="Roles: what users may do.")

Name = Annotated[str, typer.Argument(metavar="ROLE", help="The role's name.")]
Key = Annotated[str, typer.Argument(help="The key, or with --prefix the start of the keys.")]
End = Annotated[str, typer.Argument(help="All keys from KEY up to, without, this one.")]
Prefix = Annotated[bool, typer.Option("--prefix", help="Every key that starts so.")]


class AccessKind(enum.StrEnum):
    """As `raftkv.KeyAccess`, without the client's imports."""

    READ = "read"
    WRITE = "write"
    READWRITE = "readwrite"


class Right(enum.StrEnum):
    """As `raftkv.AdministrativeRight`, without the client's imports."""

    CLUSTER = "cluster"
    MAINTENANCE = "maintenance"
    AUTH = "auth"
    SESSIONS = "sessions"


Admin = Annotated[
    Right | None, typer.Option("--admin", help="An administrative right, in place of keys.")
]


@app.command()
def add(context: typer.Context, role: Name) -> None:
    """Add a role without rights."""
    client_command.run(context, lambda client: client.auth.role_add(role))
    print_values(options_of(context).output, {"added": role})


@app.command()
def get(context: typer.Context, role: Name) -> None:
    """Show what a role's users may do."""
    found = client_command.run(context, lambda client: client.auth.role_get(role))
    if options_of(context).output is Output.JSON:
        print_json(_fields(found))
        return
    for permission in found.permissions:
        typer.echo(f"{permission.access:<9}  {_keys(permission)}")
    for right in found.admin_rights:
        typer.echo(f"admin      {right}")


@app.command("list")
def list_(context: typer.Context) -> None:
    """List the names of all roles."""
    roles = client_command.run(context, lambda client: client.auth.role_list())
    if options_of(context).output is Output.JSON:
        print_json({"roles": list(roles)})
    else:
        for role in roles:
            typer.echo(role)


@app.command()
def delete(context: typer.Context, role: Name) -> None:
    """Delete a role; its users lose it."""
    client_command.run(context, lambda client: client.auth.role_delete(role))
    print_values(options_of(context).output, {"deleted": role})


@app.command()
def grant(
    context: typer.Context,
    role: Name,
    access: Annotated[AccessKind | None, typer.Argument(help="What may be done.")] = None,
    key: Key = "",
    end: End = "",
    prefix: Prefix = False,
    admin: Admin = None,
) -> None:
    """Let a role's users read or write keys, or give them an administrative right.

    `raftkv role grant app readwrite app/ --prefix`; `raftkv role grant operator --admin cluster`.
    """
    right = _right(key, end, prefix=prefix, admin=admin)
    if admin is not None and access is not None:
        raise InvalidRequest("ACCESS and --admin exclude each other; leave out one of them")
    if admin is None and access is None:
        raise InvalidRequest("ACCESS is missing; give read, write or readwrite, and a key")
    kind = None if access is None else access.value
    client_command.run(context, lambda client: client.auth.role_grant(role, kind, **right))
    print_values(options_of(context).output, {"granted": role})


@app.command()
def revoke(
    context: typer.Context,
    role: Name,
    key: Key = "",
    end: End = "",
    prefix: Prefix = False,
    admin: Admin = None,
) -> None:
    """Take a right from a role: exactly the keys of one that `raftkv role get` shows."""
    right = _right(key, end, prefix=prefix, admin=admin)
    client_command.run(context, lambda client: client.auth.role_revoke(role, **right))
    print_values(options_of(context).output, {"revoked": role})


def _right(key: str, end: str, *, prefix: bool, admin: Right | None) -> dict[str, Any]:
    """The arguments of `role_grant` and `role_revoke` that name the right."""
    if admin is not None:
        if key or end or prefix:
            raise InvalidRequest("KEY and --admin exclude each other; leave out one of them")
        return {"admin_right": admin.value}
    if prefix:
        if end:
            raise InvalidRequest("END and --prefix exclude each other; leave out one of them")
        return {"prefix": argument_bytes(key)}
    if not key:
        raise InvalidRequest(
            "KEY is missing; give a key, or an empty one with --prefix for all keys"
        )
    return {"key": argument_bytes(key), "range_end": argument_bytes(end) if end else None}


def _keys(permission: Permission) -> str:
    """The keys of a permission, for people."""
    from raftkv.client.requests import prefix_end

    key, end = permission.key, permission.range_end
    if not end:
        return printable(key)
    if key == b"\0" and end == b"\0":
        return "all keys"
    if end == prefix_end(key):
        return f"{printable(key)} --prefix"
    last = "the last key" if end == b"\0" else printable(end)
    return f"{printable(key)} to {last}"


def _fields(role: RoleInfo) -> dict[str, object]:
    return {
        "name": role.name,
        "permissions": [
            {
                "access": each.access.value,
                **json_bytes("key", each.key),
                **json_bytes("range_end", each.range_end),
            }
            for each in role.permissions
        ],
        "admin_rights": [right.value for right in role.admin_rights],
    }

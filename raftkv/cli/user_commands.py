"""`raftkv user`: adds, lists, changes and deletes users."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raftkv.cli import client_command
from raftkv.cli.client_command import Output, options_of
from raftkv.cli.output import print_json, print_table, print_values
from raftkv.cli.passwords import new_password
from raftkv.errors import InvalidRequest

if TYPE_CHECKING:
    from raftkv.client.model.users import UserInfo

app = typer.Typer(no_args_is_help=True, help="Users: who may connect, and with which roles.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
RoleName = Annotated[str, typer.Argument(metavar="ROLE", help="The role's name.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="A file with the user's new password.",
        show_default="asked for",
    ),
]


@app.command()
def add(
    context: typer.Context,
    name: Name,
    password_file: PasswordFile = None,
    no_password: Annotated[
        bool,
        typer.Option("--no-password", help="The user has service tokens or a certificate only."),
    ] = False,
) -> None:
    """Add a user, who has no roles yet."""
    if no_password and password_file is not None:
        raise InvalidRequest("--no-password and --password-file exclude each other; leave out one")
    password = None if no_password else new_password(name, password_file)
    client_command.run(context, lambda client: client.auth.user_add(name, password))
    print_values(options_of(context).output, {"added": name})


@app.command()
def get(context: typer.Context, name: Name) -> None:
    """Show a user's roles, and whether it has a password."""
    found = client_command.run(context, lambda client: client.auth.user_get(name))
    output = options_of(context).output
    if output is Output.JSON:
        print_json(_fields(found))
    else:
        print_values(output, {**_fields(found), "roles": ", ".join(found.roles) or "none"})


@app.command("list")
def list_(context: typer.Context) -> None:
    """List all users."""
    users = client_command.run(context, lambda client: client.auth.user_list())
    if options_of(context).output is Output.JSON:
        print_json([_fields(user) for user in users])
        return
    rows = [
        (user.name, ", ".join(user.roles), "yes" if user.has_password else "no") for user in users
    ]
    print_table(("name", "roles", "password"), rows)


@app.command()
def delete(context: typer.Context, name: Name) -> None:
    """Delete a user and its service tokens; open connections of the user end."""
    client_command.run(context, lambda client: client.auth.user_delete(name))
    print_values(options_of(context).output, {"deleted": name})


@app.command()
def passwd(context: typer.Context, name: Name, password_file: PasswordFile = None) -> None:
    """Set a user's password. Everybody may set their own."""
    password = new_password(name, password_file)
    client_command.run(context, lambda client: client.auth.user_set_password(name, password))
    print_values(options_of(context).output, {"changed": name})


@app.command()
def grant(context: typer.Context, name: Name, role: RoleName) -> None:
    """Give a role to a user; the role `root` may do everything."""
    client_command.run(context, lambda client: client.auth.user_grant_role(name, role))
    print_values(options_of(context).output, {"user": name, "granted": role})


@app.command()
def revoke(context: typer.Context, name: Name, role: RoleName) -> None:
    """Take a role from a user."""
    client_command.run(context, lambda client: client.auth.user_revoke_role(name, role))
    print_values(options_of(context).output, {"user": name, "revoked": role})


def _fields(user: UserInfo) -> dict[str, object]:
    return {"name": user.name, "roles": list(user.roles), "has_password": user.has_password}

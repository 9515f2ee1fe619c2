"""`raftkv auth`: switches authentication on and off; resets the password of root."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raftkv.cli import client_command
from raftkv.cli.client_command import options_of
from raftkv.cli.output import print_values
from raftkv.cli.passwords import new_password
from raftkv.cli.user_commands import PasswordFile

app = typer.Typer(no_args_is_help=True, help="Authentication: whether callers must be users.")


@app.command()
def enable(context: typer.Context) -> None:
    """From now on, serve only users, each within its rights. Needs a user with the role root."""
    client_command.run(context, lambda client: client.auth.enable())
    print_values(options_of(context).output, {"authentication": "enabled"})


@app.command()
def disable(context: typer.Context) -> None:
    """From now on, serve everybody. Needs a user with the role root."""
    client_command.run(context, lambda client: client.auth.disable())
    print_values(options_of(context).output, {"authentication": "disabled"})


@app.command()
def status(context: typer.Context) -> None:
    """Show whether authentication is enabled, and as whom the cluster sees the caller."""
    found = client_command.run(context, lambda client: client.auth.status())
    print_values(
        options_of(context).output,
        {
            "enabled": found.enabled,
            "user": found.user,
            "auth_revision": found.auth_revision,
        },
    )


@app.command("reset-root")
def reset_root(
    data_dir: Annotated[Path, typer.Option(help="The data directory of a node of the cluster.")],
    password_file: PasswordFile = None,
) -> None:
    """Give the user root a new password and the role root, where the password is lost.

    Run it on the machine of a node, then restart that node: it puts the change through the log. It
    needs no password, but the right to write the node's data directory.
    """
    from raftkv.server.root_reset import write_root_reset

    write_root_reset(data_dir, new_password("root", password_file))
    typer.echo(f"restart the node of {data_dir}: it then gives root the new password")

"""`raftkv auth`: switches authentication on and off, and shows whether it is on."""

from __future__ import annotations

import typer

from raftkv.cli import client_command
from raftkv.cli.client_command import options_of
from raftkv.cli.output import print_values

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

"""`raftkv transfer-leader` and `raftkv log-level`: operations on the leader and on log levels."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from raftkv.cli import client_command
from raftkv.cli.client_command import Output, options_of
from raftkv.cli.exit_codes import ExitCode
from raftkv.cli.output import print_json, print_values
from raftkv.errors import RaftkvError

if TYPE_CHECKING:
    from raftkv.client.client import Client


class Level(enum.StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def transfer_leader(
    context: typer.Context,
    node_id: Annotated[
        int, typer.Argument(min=0, help="The next leader; 0: the most up-to-date voter.")
    ] = 0,
) -> None:
    """Hand leadership to another node, as before maintenance."""
    leader = client_command.run(context, lambda client: client.transfer_leader(node_id))
    print_values(options_of(context).output, {"leader": leader})


def log_level(
    context: typer.Context, level: Annotated[Level, typer.Argument(help="The new level.")]
) -> None:
    """Change the log level of running nodes: of those that --endpoints names.

    Exits with 4 if one of them did not answer.
    """
    changed = client_command.run(context, lambda client: _set_on_all(client, level))
    if options_of(context).output is Output.JSON:
        print_json(changed)
    else:
        for endpoint, outcome in changed.items():
            before = f"{outcome['previous']} -> {level}" if "previous" in outcome else "unreachable"
            typer.echo(f"{endpoint}  {before}")
    if any("error" in outcome for outcome in changed.values()):
        raise typer.Exit(ExitCode.UNAVAILABLE)


async def _set_on_all(client: Client, level: str) -> dict[str, dict[str, str]]:
    changed: dict[str, dict[str, str]] = {}
    for endpoint in client.endpoints:
        try:
            changed[endpoint] = {"previous": await client.set_log_level(level, endpoint)}
        except RaftkvError as error:
            changed[endpoint] = {"error": error.message}
    return changed

"""`raftkv lease`: grants, renews, keeps alive, revokes and lists leases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from raftkv.cli import client_command
from raftkv.cli.client_command import Output, options_of
from raftkv.cli.output import json_bytes, print_json, print_values
from raftkv.cli.streams import output_failed
from raftkv.errors import printable

if TYPE_CHECKING:
    from raftkv.client.client import Client
    from raftkv.client.model.results import LeaseResult

app = typer.Typer(
    no_args_is_help=True, help="Leases: their keys are deleted unless they are renewed."
)

LeaseId = Annotated[int, typer.Argument(min=1, metavar="LEASE", help="The lease's id.")]


@app.command()
def grant(
    context: typer.Context,
    ttl: Annotated[float, typer.Argument(min=1.0, metavar="SECONDS", help="Time to live.")],
) -> None:
    """Make a lease; attach keys to it with `raftkv put --lease`."""
    _show(context, client_command.run(context, lambda client: client.lease_grant(ttl)))


@app.command()
def renew(context: typer.Context, lease: LeaseId) -> None:
    """Let it live for its whole time again."""
    _show(context, client_command.run(context, lambda client: client.lease_renew(lease)))


@app.command("keep-alive")
def keep_alive(context: typer.Context, lease: LeaseId) -> None:
    """Renew it for as long as this runs, until Ctrl-C; exits with 10 if it is lost."""
    import asyncio

    from raftkv.cli.event_loop import ENDING, Signals

    async def keep(client: Client) -> None:
        with Signals(ENDING) as signals:
            signals.cancel(asyncio.current_task())
            try:
                async with client.keep(lease) as kept:
                    print_values(options_of(context).output, {"lease": kept.id, "ttl_s": kept.ttl})
                    if output_failed():
                        return
                    await kept.lost.wait()
                    kept.check()
            except asyncio.CancelledError:
                if signals.received is None:
                    raise

    client_command.run(context, keep)


@app.command()
def revoke(context: typer.Context, lease: LeaseId) -> None:
    """End it and delete its keys."""
    client_command.run(context, lambda client: client.lease_revoke(lease))
    print_values(options_of(context).output, {"revoked": lease})


@app.command()
def ttl(context: typer.Context, lease: LeaseId) -> None:
    """How long it has left, and its keys."""
    found = client_command.run(context, lambda client: client.lease_time_to_live(lease, keys=True))
    fields: dict[str, object] = {
        "lease": found.lease,
        "left_s": found.left_s,
        "granted_ttl_s": found.granted_ttl_s,
    }
    output = options_of(context).output
    if output is Output.JSON:
        fields["keys"] = [json_bytes("key", key) for key in found.keys]
    else:
        fields["keys"] = ", ".join(map(printable, found.keys)) or "none"
    print_values(output, fields)


@app.command("list")
def list_(context: typer.Context) -> None:
    """The ids of all leases; a client's session is one of them."""
    leases = client_command.run(context, lambda client: client.leases())
    if options_of(context).output is Output.JSON:
        print_json({"leases": list(leases)})
    else:
        for lease in leases:
            typer.echo(lease)


def _show(context: typer.Context, result: LeaseResult) -> None:
    output = options_of(context).output
    fields: dict[str, object] = {"lease": result.lease, "ttl_s": result.ttl_s}
    if output is Output.JSON:
        fields["revision"] = result.revision
    print_values(output, fields)

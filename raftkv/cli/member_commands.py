"""`raftkv member`: who takes part in the cluster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from raftkv.cli import session
from raftkv.cli.options import Output, options_of
from raftkv.cli.output import print_json, print_table

if TYPE_CHECKING:
    from raftkv.client.status import Member

app = typer.Typer(no_args_is_help=True, help="Who takes part in the cluster.")

NodeId = Annotated[int, typer.Argument(min=1, metavar="NODE_ID", help="The node's id.")]


@app.command("list")
def list_(context: typer.Context) -> None:
    """The members, as a majority has them."""
    _show(context, session.run(context, lambda client: client.member_list()))


@app.command()
def add(
    context: typer.Context,
    node_id: NodeId,
    peer: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where other nodes reach it.")],
    client: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where clients reach it.")],
) -> None:
    """Add a node as a learner, before it is started.

    Then start it with `raftkv serve --node-id NODE_ID --join ADDRESS --peer-listen ...
    --client-listen ...`, and promote it when `raftkv status` shows that it has caught up.
    """
    members = session.run(context, lambda cluster: cluster.member_add(node_id, peer, client))
    _show(context, members)
    if options_of(context).output is Output.TABLE:
        endpoint = options_of(context).endpoints.split(",")[0]
        typer.echo(
            f"Now start it: raftkv serve --node-id {node_id} --join {endpoint}"
            f" --peer-listen {peer} --client-listen {client}\n"
            f"and when it has caught up: raftkv member promote {node_id}",
            err=True,
        )


@app.command()
def promote(context: typer.Context, node_id: NodeId) -> None:
    """Give a learner a vote. Refused while it has not caught up."""
    _show(context, session.run(context, lambda client: client.member_promote(node_id)))


@app.command()
def remove(context: typer.Context, node_id: NodeId) -> None:
    """Take a node out for good; it stops itself, and its id must not be used again."""
    _show(context, session.run(context, lambda client: client.member_remove(node_id)))


def _show(context: typer.Context, members: Iterable[Member]) -> None:
    if options_of(context).output is Output.JSON:
        print_json(
            {
                "members": [
                    {
                        "node_id": member.node_id,
                        "peer_address": member.peer_address,
                        "client_address": member.client_address,
                        "learner": member.learner,
                    }
                    for member in members
                ]
            }
        )
        return
    print_table(
        ["node", "for nodes", "for clients", "vote"],
        [
            (
                str(member.node_id),
                member.peer_address,
                member.client_address,
                "learner" if member.learner else "voter",
            )
            for member in members
        ],
    )

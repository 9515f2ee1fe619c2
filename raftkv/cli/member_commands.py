"""`raftkv member`: lists and changes the cluster's members."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from raftkv.cli import client_command
from raftkv.cli.client_command import Output, options_of
from raftkv.cli.output import print_json, print_table

if TYPE_CHECKING:
    from raftkv.client.client import Client
    from raftkv.client.model.status import Member

app = typer.Typer(no_args_is_help=True, help="Who takes part in the cluster.")

NodeId = Annotated[int, typer.Argument(min=1, metavar="NODE_ID", help="The node's id.")]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Although too few voters acknowledge now: the change, and everything after it, waits"
        " until they do.",
    ),
]


@app.command("list")
def list_(context: typer.Context) -> None:
    """The members, as a majority has them."""
    _show(context, client_command.run(context, lambda client: client.member_list()))


@app.command()
def add(
    context: typer.Context,
    node_id: NodeId,
    peer: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where other nodes reach it.")],
    client: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where clients reach it.")],
    force: Force = False,
) -> None:
    """Add a node as a learner, before it is started.

    Then start it with `raftkv serve --node-id NODE_ID --join ADDRESS --peer-listen ...
    --client-listen ...`, and promote it when `raftkv status` shows that it has caught up.
    """
    from raftkv.cli.member_replace import serve_line

    async def added(cluster: Client) -> tuple[tuple[Member, ...], str]:
        members = await cluster.member_add(node_id, peer, client, force=force)
        (member,) = (each for each in members if each.node_id == node_id)
        return members, await serve_line(cluster, member)

    members, line = client_command.run(context, added)
    _show(context, members)
    if options_of(context).output is Output.TABLE:
        typer.echo(
            f"Now start it: {line}\nand when it has caught up: raftkv member promote {node_id}",
            err=True,
        )


@app.command()
def promote(context: typer.Context, node_id: NodeId, force: Force = False) -> None:
    """Give a learner a vote. Refused while it has not caught up."""
    _show(
        context,
        client_command.run(context, lambda client: client.member_promote(node_id, force=force)),
    )


@app.command()
def remove(context: typer.Context, node_id: NodeId, force: Force = False) -> None:
    """Take a node out for good; it stops itself, and its id must not be used again.

    Refused if too few of the other voters acknowledge to go on without it.
    """
    _show(
        context,
        client_command.run(context, lambda client: client.member_remove(node_id, force=force)),
    )


@app.command()
def replace(
    context: typer.Context,
    old_id: Annotated[int, typer.Argument(min=1, metavar="OLD", help="Who leaves for good.")],
    new_id: Annotated[int, typer.Argument(min=1, metavar="NEW", help="Who takes its place.")],
    peer: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where other nodes reach NEW.")
    ] = "",
    client: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where clients reach NEW.")] = "",
    force: Force = False,
) -> None:
    """Let a new node take the place of one that is dead, damaged, or to be retired.

    Adds NEW as a learner unless it is a member already (that takes --peer and --client), prints the
    command that starts it, waits until it has caught up, and then, in one change, gives it
    the vote of OLD and removes OLD. It may be interrupted, and goes on when it is repeated. Without
    --timeout it waits for as long as that takes.
    """
    from raftkv.cli import member_replace

    options = options_of(context)
    timeout_s = options.timeout_s if options.timeout_given else None
    wanted = member_replace.Wanted(old_id, new_id, peer, client, force, timeout_s)
    report = member_replace.Report()
    members = client_command.run(
        context, lambda cluster: member_replace.replace(cluster, wanted, report)
    )
    _show(context, members)


@app.command()
def update(
    context: typer.Context,
    node_id: NodeId,
    peer: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where other nodes reach it.")
    ] = "",
    client: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where clients reach it.")] = "",
) -> None:
    """Change the addresses of a member; one that is not given stays."""
    if not peer and not client:
        raise typer.BadParameter("there is nothing to change: give --peer, --client or both")
    members = client_command.run(
        context,
        lambda cluster: cluster.member_update(node_id, peer_address=peer, client_address=client),
    )
    _show(context, members)


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
                        "started": member.started,
                    }
                    for member in members
                ]
            }
        )
        return
    print_table(
        ["node", "for nodes", "for clients", "vote", "state"],
        [
            (
                str(member.node_id),
                member.peer_address,
                member.client_address,
                "learner" if member.learner else "voter",
                "started" if member.started else "not started",
            )
            for member in members
        ],
    )

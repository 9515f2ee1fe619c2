"""`raftkv drain`: takes the leadership from a node, and says whether it can be stopped safely."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from raftkv.cli import client_command
from raftkv.cli.autopilot import ClusterHealth, health_of
from raftkv.cli.client_command import options_of
from raftkv.cli.output import print_values
from raftkv.cli.status import ASK_S_MAX, overview_by
from raftkv.errors import MemberUnknown, OutcomeUnknown, Refused, Unavailable

if TYPE_CHECKING:
    from raftkv.client.client import Client

WAIT_S = 30.0
PAUSE_S = 0.2
TRANSFER_S_MAX = 5.0


def drain(
    context: typer.Context,
    node_id: Annotated[int, typer.Argument(min=1, metavar="NODE_ID", help="The node to stop.")],
) -> None:
    """Move the leadership away from a node, and say when it is safe to stop it.

    It is safe when the node does not lead and the other healthy voters are a majority. Waits for
    that, 30 s without --timeout, and then exits with 6 and says what is missing. Changes nothing
    else: stop the node next, since it may be elected again later.
    """
    options = options_of(context)
    wait_s = options.timeout_s if options.timeout_given else WAIT_S
    health = client_command.run(context, lambda client: drained(client, node_id, wait_s))
    print_values(
        options.output,
        {
            "safe_to_stop": node_id,
            "leader": health.leader_id,
            "remaining_voters": len(health.remaining(node_id)),
            "quorum": health.quorum,
        },
    )


async def drained(client: Client, node_id: int, wait_s: float) -> ClusterHealth:
    """Wait until the node can be stopped; returns what the cluster is like then.

    Raises `MemberUnknown`, and `Refused` with what is missing after `wait_s`.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    while True:
        health = health_of(await overview_by(client, ASK_S_MAX))
        missing = why_unsafe(health, node_id)
        if not missing and health.leader_id == node_id:
            missing = await _transferred(client, deadline - loop.time())
        elif not missing:
            return health
        if loop.time() >= deadline:
            raise Refused(f"node {node_id} can't be stopped safely: {missing}")
        await asyncio.sleep(PAUSE_S)


def why_unsafe(health: ClusterHealth, node_id: int) -> str:
    """Why the others could not go on without this node; empty if they could.

    Raises `MemberUnknown` if it is not a member of the cluster.
    """
    if health.members and node_id not in (each.node_id for each in health.members):
        raise MemberUnknown(f"node {node_id} is not a member of the cluster", node_id=node_id)
    if not any(each.leader and each.healthy for each in health.members):
        return "no healthy node leads"
    remaining = health.remaining(node_id)
    if len(remaining) >= health.quorum:
        return ""
    troubles = "; ".join(
        f"node {each.node_id}: {each.trouble}"
        for each in health.members
        if each.voter and not each.healthy and each.node_id != node_id
    )
    return (
        f"{len(remaining)} other healthy voters would remain, and a majority of the {health.voters}"
        f" voters is {health.quorum}{f' ({troubles})' if troubles else ''}"
    )


async def _transferred(client: Client, left_s: float) -> str:
    """Ask for another leader; why it still leads, as far as that is known yet."""
    try:
        await client.transfer_leader(timeout=max(0.0, min(left_s, TRANSFER_S_MAX)))
    except (Refused, Unavailable, OutcomeUnknown) as error:
        return f"it still leads ({error.message})"
    return "it still leads"

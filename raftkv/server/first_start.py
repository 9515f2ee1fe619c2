"""Whether a node with an empty disk is new, or has lost what it once promised.

A node that forgot its votes and its log may vote for a leader that lacks what it helped to
acknowledge, so it must not come back under its id.
"""

from __future__ import annotations

import asyncio

import grpc

from raftkv.config import Settings
from raftkv.errors import DamagedData
from raftkv.rpc import api_pb2, api_pb2_grpc

# Nobody waits for this at a first start of all nodes: a closed port answers at once.
ASK_TIMEOUT_S = 1.0


async def require_first_start(settings: Settings) -> None:
    """Ask the other initial members; raise `DamagedData` if one has heard of this node before.

    That the cluster has gone on proves nothing: a majority begins without the node that is
    started last. A node writes to its disk before it says a word, so having been heard does.
    Members that do not answer, or have not heard of it since they started, can't tell.
    """
    others = {
        node_id: address.client
        for node_id, address in settings.initial_members.items()
        if node_id != settings.node_id
    }
    heard = await asyncio.gather(*(_heard(address, settings) for address in others.values()))
    witnesses = [node_id for node_id, has_heard in zip(others, heard, strict=True) if has_heard]
    if witnesses:
        raise DamagedData(
            f"{settings.data_dir} is empty, but node {witnesses[0]} has heard of node"
            f" {settings.node_id} before: its log and votes are lost, and under this id it could"
            " undo what it has acknowledged. Put the directory back, or, as the others have the"
            f" data: `raftkv member remove {settings.node_id}`, then `raftkv member add` with a"
            " new id, and start that with --join",
            path=settings.data_dir,
        )


async def _heard(address: str, settings: Settings) -> bool:
    options = (("grpc.enable_http_proxy", 0),)
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        cluster = api_pb2_grpc.ClusterStub(channel)  # type: ignore[no-untyped-call]
        try:
            status: api_pb2.StatusReply = await cluster.Status(
                api_pb2.StatusRequest(), timeout=ASK_TIMEOUT_S
            )
        except grpc.aio.AioRpcError:
            return False
    return status.header.cluster_id == settings.cluster_id and any(
        peer.node_id == settings.node_id and peer.last_contact_ms >= 0 for peer in status.peers
    )

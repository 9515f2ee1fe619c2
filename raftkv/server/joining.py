"""How a new node learns which cluster it is about to join."""

from __future__ import annotations

import grpc

from raftkv.config import Settings
from raftkv.errors import ConfigurationError, Unavailable
from raftkv.rpc import api_pb2, api_pb2_grpc
from raftkv.server import failures

ASK_TIMEOUT_S = 10.0


async def learn_cluster_id(settings: Settings) -> int:
    """Ask the member at `settings.join`.

    Raises `ConfigurationError` if this node has not been added there, or under other addresses,
    and `Unavailable` if no answer can be had.
    """
    reply = await _member_list(settings.join)
    for member in reply.members:
        if member.node_id == settings.node_id:
            _check_addresses(member, settings)
            return reply.header.cluster_id
    raise ConfigurationError(
        f"node {settings.node_id} is not a member of the cluster at {settings.join}. Fix: first run"
        f" `raftkv member add {settings.node_id} --peer {settings.peer_advertise}"
        f" --client {settings.client_advertise}` there, then start this node again.",
        key="join",
    )


def _check_addresses(member: api_pb2.Member, settings: Settings) -> None:
    listed = (member.peer_address, member.client_address)
    own = (settings.peer_advertise, settings.client_advertise)
    if listed != own:
        raise ConfigurationError(
            f"node {settings.node_id} was added with the addresses {'/'.join(listed)}, but"
            f" advertises {'/'.join(own)}. Fix: make peer_advertise and client_advertise agree, or"
            " remove the member and add it with the right addresses.",
            key="join",
        )


async def _member_list(address: str) -> api_pb2.MemberListReply:
    options = (("grpc.enable_http_proxy", 0),)
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        cluster = api_pb2_grpc.ClusterStub(channel)  # type: ignore[no-untyped-call]
        try:
            reply: api_pb2.MemberListReply = await cluster.MemberList(
                api_pb2.MemberListRequest(), timeout=ASK_TIMEOUT_S
            )
        except grpc.aio.AioRpcError as call:
            error = failures.error_of_call(call)
            if error is None:
                error = Unavailable(
                    f"no member answers at {address} ({call.details()}). Fix: check that the node"
                    " there runs, and that join is its client address."
                )
            raise error from call
    return reply

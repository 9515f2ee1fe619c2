"""How a node that was added to a running cluster joins it: once, and with the disk that it has."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import grpc

from raftkv.config import Settings
from raftkv.errors import ConfigurationError, MemberUnknown, NotLeader, RaftkvError, Unavailable
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc
from raftkv.storage.identity import DirectoryIdentity, Stage
from raftkv.versions import SUPPORTED
from raftkv.wire.grpc_status import error_of_call

ASK_TIMEOUT_S = 10.0
RETRY_S = 0.2

Reply = TypeVar("Reply")


async def identity_to_join(settings: Settings, disk_id: int) -> DirectoryIdentity:
    """What the directory of a node that joins has to say: the cluster at `settings.join` is asked.

    Raises `ConfigurationError` if this node has not been added there, and `Unavailable` if no
    answer can be had.
    """
    reply = await _ask_any(settings, lambda cluster: cluster.MemberList(_LIST, timeout=_LEFT))
    if settings.node_id not in (member.node_id for member in reply.members):
        raise _not_added(settings)
    return DirectoryIdentity(
        reply.header.cluster_id,
        settings.node_id,
        disk_id,
        settings.cluster_name,
        reply.header.incarnation,
        Stage.JOINING,
    )


async def join(settings: Settings, identity: DirectoryIdentity) -> None:
    """Have the cluster note that this node has started, from this disk. Again is no error.

    Raises the `RaftkvError` with which the cluster refuses it, `ConfigurationError` if it was not
    added, and `Unavailable` if no answer can be had.
    """
    if not settings.join:
        raise ConfigurationError(
            f"join is unset, but node {identity.node_id} has not joined its cluster yet. Fix: set"
            " it to client addresses of members.",
            key="join",
        )
    request = api_pb2.MemberJoinRequest(
        node_id=identity.node_id,
        disk_id=identity.disk_id,
        version_min=SUPPORTED.minimum,
        version_max=SUPPORTED.maximum,
        peer_address=settings.peer_advertise,
        client_address=settings.client_advertise,
    )
    # The leader is named by where clients find it, and this node may not: then all are asked.
    known = itertools.cycle(settings.addresses_to_join)
    address = next(known)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ASK_TIMEOUT_S
    while True:
        try:
            await _ask(address, lambda cluster: cluster.MemberJoin(request, timeout=_LEFT))
            return
        except MemberUnknown as error:
            raise _not_added(settings) from error
        except NotLeader as error:
            hint = error.facts.get("leader_address", "")
            failure: RaftkvError = error
        except Unavailable as error:
            hint, failure = "", error
        if loop.time() >= deadline:
            raise failure
        address = hint or next(known)
        await asyncio.sleep(RETRY_S)


_LIST = api_pb2.MemberListRequest()
_LEFT = ASK_TIMEOUT_S


def _not_added(settings: Settings) -> ConfigurationError:
    return ConfigurationError(
        f"node {settings.node_id} is not a member of the cluster at {settings.join}. Fix: first run"
        f" `raftkv member add {settings.node_id} --peer {settings.peer_advertise} --client"
        f" {settings.client_advertise} -e {','.join(settings.addresses_to_join)}`, then start this"
        " node again. If the id was removed, that command refuses it and names a free one",
        key="join",
    )


async def _ask_any(
    settings: Settings, call: Callable[[api_pb2_grpc.ClusterStub], Awaitable[Reply]]
) -> Reply:
    *others, last = settings.addresses_to_join
    for address in others:
        with suppress(Unavailable):
            return await _ask(address, call)
    return await _ask(last, call)


async def _ask(address: str, call: Callable[[api_pb2_grpc.ClusterStub], Awaitable[Reply]]) -> Reply:
    options = (("grpc.enable_http_proxy", 0),)
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        cluster = api_pb2_grpc.ClusterStub(channel)  # type: ignore[no-untyped-call]
        try:
            return await call(cluster)
        except grpc.aio.AioRpcError as failed:
            error: RaftkvError | None = error_of_call(failed)
            if error is None:
                error = Unavailable(
                    f"no member answers at {address} ({failed.details()}). Fix: check that the node"
                    " there runs, and that join is its client address."
                )
            raise error from failed

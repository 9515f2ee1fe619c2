"""The first start of a node: its identity on disk, and how it founds or joins its cluster."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TypeVar

import grpc

from raftkv.config import Settings
from raftkv.errors import (
    ConfigurationError,
    MemberUnknown,
    NotLeader,
    PermissionDenied,
    RaftkvError,
    Unauthenticated,
    Unavailable,
)
from raftkv.files import require_private
from raftkv.node.founder import Founder
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc
from raftkv.server.authentication import METADATA
from raftkv.server.security import NodeSecurity
from raftkv.storage.directory import DataDirectory
from raftkv.storage.identity import DirectoryIdentity, Stage
from raftkv.versions import SUPPORTED
from raftkv.wire.grpc_status import error_of_call

ASK_TIMEOUT_S = 10.0
RETRY_S = 0.2

Reply = TypeVar("Reply")


async def new_identity(
    settings: Settings,
    security: NodeSecurity,
    directory: DataDirectory,
    before: DirectoryIdentity | None,
    rng: Random,
) -> DirectoryIdentity:
    """Decide and store the identity of an undecided directory: a founder's, or a joining node's.

    `before` is the identity of an earlier start that has not founded the cluster: its disk id may
    be known to other founders, so it is kept. Raises as `identity_to_join`.
    """
    disk_id = before.disk_id if before is not None else rng.getrandbits(64) or 1
    if settings.join:
        identity = await identity_to_join(settings, security, disk_id)
    else:
        settings.require_founder()
        identity = DirectoryIdentity(
            settings.cluster_id, settings.node_id, disk_id, settings.cluster_name
        )
    if identity != before:
        # Stored before any other node learns the disk id, which must not change after that.
        directory.save(identity)
    return identity


def reason_of_wait(founder: Founder) -> str:
    """Why a founder serves no clients yet: the founders that have not answered."""
    missing = "; ".join(f"node {id}: {why}" for id, why in sorted(founder.waiting_for.items()))
    return f"it waits until all first nodes of the cluster answer ({missing or 'asking'})"


async def identity_to_join(
    settings: Settings, security: NodeSecurity, disk_id: int
) -> DirectoryIdentity:
    """The identity of a joining node, from the cluster at `settings.join`.

    Raises `ConfigurationError` if this node has not been added to that cluster or is not let in,
    and `Unavailable` if no member answers.
    """
    metadata = join_metadata(settings)
    reply = await _ask_any(
        settings,
        security,
        lambda cluster: cluster.MemberList(_LIST, timeout=_LEFT, metadata=metadata),
    )
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


async def join(settings: Settings, security: NodeSecurity, identity: DirectoryIdentity) -> None:
    """Register this node's start and its disk with the cluster. Idempotent.

    Raises the `RaftkvError` with which the cluster refuses the node, `ConfigurationError` if the
    node was not added, and `Unavailable` if no member answers.
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
    metadata = join_metadata(settings)
    # A hint names the leader by its client address, which this node may be unable to reach: then
    # it asks all members in turn.
    known = itertools.cycle(settings.addresses_to_join)
    address = next(known)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ASK_TIMEOUT_S
    while True:
        try:
            await _ask(
                settings,
                address,
                security,
                lambda cluster: cluster.MemberJoin(request, timeout=_LEFT, metadata=metadata),
            )
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


def join_metadata(settings: Settings) -> tuple[tuple[str, str], ...]:
    """What authenticates this node's calls to the cluster that it joins, beside its certificate.

    Raises `ConfigurationError` if the token can't be read, or others than its owner can read it.
    """
    if not settings.join_token_file:
        return ()
    path = Path(settings.join_token_file)
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(
            f"join_token_file is {path}, which can't be read: {reason}. Fix: write the token of a"
            " user with the right `cluster` to it.",
            key="join_token_file",
        ) from error
    require_private(path, "join_token_file")
    return ((METADATA, f"Bearer {token}"),)


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
    settings: Settings,
    security: NodeSecurity,
    call: Callable[[api_pb2_grpc.ClusterStub], Awaitable[Reply]],
) -> Reply:
    *others, last = settings.addresses_to_join
    for address in others:
        with suppress(Unavailable):
            return await _ask(settings, address, security, call)
    return await _ask(settings, last, security, call)


async def _ask(
    settings: Settings,
    address: str,
    security: NodeSecurity,
    call: Callable[[api_pb2_grpc.ClusterStub], Awaitable[Reply]],
) -> Reply:
    async with await security.channel_to_member(address) as channel:
        cluster = api_pb2_grpc.ClusterStub(channel)  # type: ignore[no-untyped-call]
        try:
            return await call(cluster)
        except grpc.aio.AioRpcError as failed:
            error: RaftkvError | None = error_of_call(failed)
            if error is None:
                error = Unavailable(
                    f"no member answers at {address} ({failed.details()}). Fix: check that the node"
                    " there runs, that join is its client address, and that client_tls is as there."
                )
            elif isinstance(error, (Unauthenticated, PermissionDenied)):
                error = ConfigurationError(
                    f"the member at {address} does not let node {settings.node_id} in:"
                    f" {error.message}. Fix: write the token of a user with the right `cluster` to"
                    " a file and set join_token_file, or set peer_cert_file and peer_key_file to"
                    " the certificate of this node.",
                    key="join_token_file",
                )
            raise error from failed

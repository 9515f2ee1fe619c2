"""A backup as a node streams it: each request allows one part, so the node waits for the reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from google.protobuf.message import DecodeError

from raftkv.client.connection.link import BACKUP
from raftkv.client.core import Core
from raftkv.client.model.status import NodeStatus, Role
from raftkv.errors import ConnectionFailed, RaftkvError
from raftkv.rpc.v1 import api_pb2

PARTS_AHEAD: Final = 4
"""Parts that the node may send before the first one is used."""

SILENCE_S_MAX: Final = 60.0
"""How long the next part may take: a node that is busy reads rows slowly, and sends each part."""


async def node_for_backup(client: Core) -> str:
    """The address of an endpoint whose node serves: of a follower, if there is one.

    Raises the error of an endpoint if none serves.
    """
    found: dict[str, bool] = {}  # whether it leads
    failure: RaftkvError = ConnectionFailed("no node of --endpoints serves")
    given = client._endpoints.given
    answers = await client._unary.statuses(given, client._timeout(None))
    for endpoint, answer in zip(given, answers, strict=True):
        if not isinstance(answer, NodeStatus):
            failure = answer
        elif not answer.not_serving:
            found[endpoint.address] = answer.role is Role.LEADER
    if not found:
        raise failure
    return min(found, key=lambda address: found[address])


async def backup_parts(client: Core, address: str) -> AsyncGenerator[api_pb2.BackupReply, None]:
    """All parts of a new backup of the node at `address`: the header, rows, the end.

    Raises the error with which the node ends the stream, and `ConnectionFailed` if it breaks before
    the end.
    """
    authentication = client._authentication
    token = await authentication.wait(client._wait_s_max)
    arrived: asyncio.Queue[bytes | RaftkvError] = asyncio.Queue()
    link = client._endpoints.get(address).link
    stream = link.open(arrived.put_nowait, arrived.put_nowait, BACKUP, token)
    try:
        # One request until it is admitted: a refusal during a write arrives without its reason.
        stream.send(api_pb2.BackupRequest().SerializeToString())
        yield await _next_part(arrived, address)
        for _ in range(PARTS_AHEAD):
            stream.send(api_pb2.BackupRequest().SerializeToString())
        last = False
        while not last:
            part = await _next_part(arrived, address)
            last = part.HasField("end")
            yield part
            newer = authentication.token
            stream.send(
                api_pb2.BackupRequest(token="" if newer == token else newer).SerializeToString()
            )
            token = newer
    finally:
        stream.close()


async def _next_part(
    arrived: asyncio.Queue[bytes | RaftkvError], address: str
) -> api_pb2.BackupReply:
    try:
        async with asyncio.timeout(SILENCE_S_MAX):
            found = await arrived.get()
        if isinstance(found, bytes):
            return api_pb2.BackupReply.FromString(found)
    except TimeoutError:
        raise ConnectionFailed(f"{address} has fallen silent before the backup's end") from None
    except DecodeError:
        raise ConnectionFailed(f"{address} sends no valid backup") from None
    if isinstance(found, RaftkvError) and found.reason != "OUTCOME_UNKNOWN":
        raise found
    raise ConnectionFailed(f"the connection to {address} broke before the backup's end: {found}")

"""The client side of a founding round: one founder asks another for the state of its disk."""

from __future__ import annotations

import asyncio

import grpc

from raftkv.errors import Unavailable
from raftkv.peer.codec import decode_founding, encode_founding
from raftkv.peer.connection import connect_to
from raftkv.peer.handshake import (
    CONNECT,
    HELLO_KEY,
    Credentials,
    HandshakeFailed,
    encode_hello,
    ending_of,
    founding_of,
    prove,
)
from raftkv.peer.ports import Founding
from raftkv.rpc.v1 import peer_pb2

ASK_TIMEOUT_S = 2.0


async def ask_founder(
    credentials: Credentials, to: int, address: str, report: Founding
) -> Founding:
    """Send what this node reports of its disk to node `to`; returns what that node reports.

    Raises `Unavailable` with the reason if node `to` does not answer as a founder.
    """
    connection = await connect_to(to, address, credentials)
    channel, credentials = connection.channel, connection.credentials
    try:
        hello = encode_hello(credentials.identity, to)
        connect = channel.stream_stream(CONNECT, None, None)
        call = connect(None, metadata=((HELLO_KEY, hello),))
        answer = None
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                proof = await prove(call.read, hello, to, credentials)
                frame = peer_pb2.Frame(proof=proof, founding=encode_founding(report))
                await call.write(frame.SerializeToString())
                answer = founding_of(await call.read())
        except HandshakeFailed as error:
            raise Unavailable(str(error)) from None
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
            pass
        if answer is None:
            ending = await ending_of(call, hello, credentials.secret)
            if ending.code == grpc.StatusCode.UNAVAILABLE.name:
                raise Unavailable(f"it takes no connection at {address} ({ending.details})")
            if not ending.reason:
                raise Unavailable(f"it does not answer at {address}")
            raise Unavailable(ending.details)
        call.cancel()
        return decode_founding(answer, to)
    finally:
        await channel.close(None)

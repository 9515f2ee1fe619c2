"""Asking another founder, before either node takes part in a cluster."""

from __future__ import annotations

import asyncio

import grpc

from raftkv.errors import Unavailable
from raftkv.peer.codec import decode_founding, encode_founding
from raftkv.peer.handshake import CONNECT, HELLO_KEY, PeerIdentity, ending_of, hello
from raftkv.peer.grpc_options import CHANNEL_OPTIONS
from raftkv.peer.introduction import NotIntroduced, founding_of, prove
from raftkv.peer.ports import Founding
from raftkv.peer.secret import ClusterSecret
from raftkv.rpc.v1 import peer_pb2

ASK_TIMEOUT_S = 2.0


async def ask_founder(
    identity: PeerIdentity, secret: ClusterSecret, to: int, address: str, said: Founding
) -> Founding:
    """What node `to` says of its disk when it gets what this node says of its own.

    Raises `Unavailable` with the reason if it does not answer as a founder.
    """
    channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    try:
        introduction = hello(identity, to)
        connect = channel.stream_stream(CONNECT, None, None)
        call = connect(None, metadata=((HELLO_KEY, introduction),))
        answer = None
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                proof = await prove(call.read, introduction, to, identity, secret)
                frame = peer_pb2.Frame(proof=proof, founding=encode_founding(said))
                await call.write(frame.SerializeToString())
                answer = founding_of(await call.read())
        except NotIntroduced as error:
            raise Unavailable(str(error)) from None
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
            pass
        if answer is None:
            ending = await ending_of(call, introduction, secret)
            if ending.code == grpc.StatusCode.UNAVAILABLE.name:
                raise Unavailable(f"it takes no connection at {address}")
            if not ending.reason:
                raise Unavailable(f"it does not answer at {address}")
            raise Unavailable(ending.details)
        call.cancel()
        return decode_founding(answer, to)
    finally:
        await channel.close(None)

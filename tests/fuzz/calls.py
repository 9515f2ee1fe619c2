"""Calls of every method of both ports, with random messages, by a gRPC client that behaves."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from random import Random

import grpc
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from raftkv.peer.grpc_options import CHANNEL_OPTIONS
from raftkv.peer.handshake import (
    HELLO_KEY,
    Credentials,
    HandshakeFailed,
    PeerIdentity,
    encode_hello,
    is_admitted,
    prove,
)
from raftkv.peer.secret import ClusterSecret
from raftkv.raft.entry import Address
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, kv_pb2, peer_pb2
from raftkv.storage.ports import Start
from tests.fuzz import messages
from tests.fuzz.messages import mutated, random_message, unreadable

CALL_S_MAX = 3.0
BROKEN_CHANCE = 0.3
UNANSWERED_CHANCE = 0.3
STRANGER = 999
TERM_IMPOSSIBLE = 2**63

messages.CARRIED.update(
    {"commands": kv_pb2.CommandBatch.DESCRIPTOR, "payload": kv_pb2.CommandBatch.DESCRIPTOR}
)

# Valid, these do what they say: a member is gone, another one leads. They are sent unreadable.
CHANGING = {
    *("MemberAdd", "MemberPromote", "MemberRemove", "MemberReplace", "MemberUpdate"),
    *("MemberJoin", "TransferLeader"),
}


def _methods(descriptor: object) -> list[MethodDescriptor]:
    services = descriptor.services_by_name.values()  # type: ignore[attr-defined]
    return [method for service in services for method in service.methods]


METHODS = [
    *_methods(api_pb2.DESCRIPTOR),
    *_methods(health_pb2.DESCRIPTOR),
    *_methods(reflection_pb2.DESCRIPTOR),
]
PEER_METHODS = _methods(peer_pb2.DESCRIPTOR)


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def request_of(rng: Random, method: MethodDescriptor) -> bytes:
    """A request of this method, as bytes, that may be none."""
    if method.name in CHANGING:
        return unreadable(rng, method.input_type)
    return message_or_not(rng, method.input_type)


def message_or_not(rng: Random, descriptor: Descriptor) -> bytes:
    data = random_message(rng, descriptor).SerializeToString()
    return mutated(rng, data) if rng.random() < BROKEN_CHANCE else data


async def call_of_client_port(rng: Random, address: str) -> str | None:
    """One call of a random method. Returns what is wrong with its end."""
    method = rng.choice(METHODS)
    async with grpc.aio.insecure_channel(address) as channel:
        return await _call(rng, channel, method, ())


async def calls_at_once(rng: Random, address: str) -> str | None:
    """Some dozens of calls over one connection."""
    async with grpc.aio.insecure_channel(address) as channel:
        chosen = [(Random(rng.getrandbits(64)), rng.choice(METHODS)) for _ in range(40)]
        ends = await asyncio.gather(*(_call(own, channel, method, ()) for own, method in chosen))
    return next((end for end in ends if end), None)


async def _call(
    rng: Random,
    channel: grpc.aio.Channel,
    method: MethodDescriptor,
    metadata: tuple[tuple[str, str | bytes], ...],
) -> str | None:
    path = path_of(method)
    count = rng.choice((0, 1, 2, 10, 50)) if method.client_streaming else 1
    requests = [request_of(rng, method) for _ in range(count)]
    silent = rng.random() < UNANSWERED_CHANCE
    leave_open = rng.random() < 0.3

    async def send() -> AsyncIterator[bytes]:
        for request in requests:
            yield request
        if leave_open:
            await asyncio.sleep(CALL_S_MAX)

    kind = ("stream" if method.client_streaming else "unary") + (
        "_stream" if method.server_streaming else "_unary"
    )
    open_call = getattr(channel, kind)(path, None, None)
    argument = send() if method.client_streaming else requests[0]
    call = open_call(argument, metadata=metadata, timeout=CALL_S_MAX)
    try:
        if silent:
            await asyncio.sleep(rng.random())
        elif method.server_streaming:
            for _ in range(200):
                if await call.read() is grpc.aio.EOF:
                    break
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return untyped(path, error)
    finally:
        call.cancel()
    return None


def untyped(path: str, error: grpc.aio.AioRpcError) -> str | None:
    """What is wrong with this end: no server may say that it met what it did not expect."""
    details = error.details() or ""
    if error.code() is grpc.StatusCode.UNKNOWN and details.startswith("Unexpected"):
        return f"{path} ended with UNKNOWN: {details[:100]}"
    return None


def _of_term(message: Message, term: int) -> Message:
    """The message without terms above this one, but for impossible ones.

    A higher term makes a leader step down, whoever says it: what is let in at the peer port of a
    cluster without a secret can do that.
    """
    for each in (message, *getattr(message, "messages", ())):
        if term < getattr(each, "term", 0) < TERM_IMPOSSIBLE:
            each.term = term
    return message


# ---- the peer port ---------------------------------------------------------------------


class Stranger:
    """Calls peer ports as a node that is no member, which knows what any client can ask for."""

    def __init__(self, client_addresses: dict[str, str]) -> None:
        """`client_addresses`: of each node, by its address for peers."""
        self._client_addresses = client_addresses

    async def unfounded_hello(self, rng: Random, address: str) -> str | None:
        """Metadata that is no Hello, or a Hello without a caller."""
        said = message_or_not(rng, peer_pb2.Hello.DESCRIPTOR)[:8_000]
        method = rng.choice(PEER_METHODS)
        async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
            return await _call(rng, channel, method, ((HELLO_KEY, said),))

    async def introduced(self, rng: Random, address: str) -> str | None:
        """Frames or chunks from a caller that was let in."""
        header = (await self._status(address)).header
        identity = PeerIdentity(
            header.cluster_id,
            header.incarnation,
            STRANGER,
            Address("127.0.0.1:9", "127.0.0.1:9"),
            disk_id=7,
            start=Start(1, 7),
        )
        method = rng.choice(PEER_METHODS)
        secret = ClusterSecret()
        async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
            hello = encode_hello(identity, header.node_id, rng.choice((0, 1, 1 << 40)))
            call = channel.stream_stream(path_of(method), None, None)(
                None, metadata=((HELLO_KEY, hello),), timeout=CALL_S_MAX
            )
            with contextlib.suppress(
                grpc.aio.AioRpcError, asyncio.InvalidStateError, HandshakeFailed
            ):
                proof = await prove(call.read, hello, header.node_id, Credentials(identity, secret))
                first = _of_term(random_message(rng, method.input_type), header.term)
                first.proof = proof  # type: ignore[attr-defined]
                await call.write(first.SerializeToString())
                if method.name == "Connect":
                    is_admitted(await call.read())
                for _ in range(rng.choice((1, 5, 50))):
                    if rng.random() < BROKEN_CHANCE:
                        await call.write(unreadable(rng, method.input_type))
                    else:
                        message = random_message(rng, method.input_type)
                        await call.write(_of_term(message, header.term).SerializeToString())
                await call.done_writing()
                for _ in itertools.repeat(None, 3):
                    await call.read()
            call.cancel()
        return None

    async def _status(self, address: str) -> api_pb2.StatusReply:
        async with grpc.aio.insecure_channel(self._client_addresses[address]) as channel:
            stub = api_pb2_grpc.ClusterStub(channel)  # type: ignore[no-untyped-call]
            reply: api_pb2.StatusReply = await stub.Status(
                api_pb2.StatusRequest(), timeout=CALL_S_MAX
            )
            return reply

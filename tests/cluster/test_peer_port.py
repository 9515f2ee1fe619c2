"""Attacks on the peer port of real nodes by an unknown process: none has a lasting effect.

It knows all that any client can ask for: cluster, incarnation, term, members. Without a cluster
secret it is admitted under an id that is no member's, as a node that was added is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

import raftkv
from raftkv.cli.node_commands import secret_new
from raftkv.peer.grpc_options import CHANNEL_OPTIONS
from raftkv.peer.handshake import (
    CONNECT,
    HELLO_KEY,
    REASON_KEY,
    Credentials,
    HandshakeFailed,
    PeerIdentity,
    encode_hello,
    ending_of,
    is_admitted,
    prove,
)
from raftkv.peer.secret import ClusterSecret
from raftkv.raft.entry import Address
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, kv_pb2, log_pb2, peer_pb2
from raftkv.storage.ports import Start
from tests.cluster.cluster import Cluster, NodeProcess, eventually

pytestmark = pytest.mark.cluster

STRANGER = 999
NO_SECRET = ClusterSecret()
Message = peer_pb2.RaftMessage


async def status_of(node: NodeProcess) -> api_pb2.StatusReply:
    async with grpc.aio.insecure_channel(node.client_address) as channel:
        cluster = api_pb2_grpc.ClusterStub(channel)  # type: ignore[no-untyped-call]
        reply: api_pb2.StatusReply = await cluster.Status(api_pb2.StatusRequest(), timeout=5)
        return reply


@dataclass
class Said:
    """How a stranger's call went."""

    admitted: bool = False
    reason: str = ""
    details: str = ""


async def attack(
    node: NodeProcess, frames: Sequence[peer_pb2.Frame], address: str = "127.0.0.1:9"
) -> Said:
    """Call the node as a stranger and write these; what became of the call."""
    header = (await status_of(node)).header
    identity = PeerIdentity(
        header.cluster_id,
        header.incarnation,
        STRANGER,
        Address(address, address),
        disk_id=7,
        start=Start(1, 7),
    )
    said = Said()
    async with grpc.aio.insecure_channel(node.peer_address, options=CHANNEL_OPTIONS) as channel:
        hello = encode_hello(identity, node.node_id, 1 << 40)
        call = channel.stream_stream(CONNECT, None, None)(None, metadata=((HELLO_KEY, hello),))
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            proof = await prove(call.read, hello, node.node_id, Credentials(identity, NO_SECRET))
            await call.write(peer_pb2.Frame(proof=proof).SerializeToString())
            said.admitted = is_admitted(await call.read())
            for frame in frames:
                await call.write(frame.SerializeToString())
            # The next answer is the end of the call, if the node ends it; a heartbeat's worth of
            # time is what it has for everything else.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await call.read()
        ending = await ending_of(call, hello, NO_SECRET)
        said.reason, said.details = ending.reason, ending.details
    return said


async def assert_unharmed(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        assert node.running, node.log()[-2000:]
    async with cluster.client() as client:
        await client.put("after", "yes", timeout=10)
        assert (await client.get("precious")).value == b"1"
    for node_id in cluster.nodes:
        status = await cluster.status(node_id)
        assert not status.not_serving
        assert status.term < 1000


def frame_of(**message: object) -> peer_pb2.Frame:
    return peer_pb2.Frame(messages=[Message(**message)])  # type: ignore[arg-type]


ATTACKS: dict[str, Callable[[int], peer_pb2.Frame]] = {
    "a heartbeat of the present term": lambda term: frame_of(
        term=term, heartbeat=peer_pb2.Heartbeat(leader_commit=0)
    ),
    "a commit index beyond the log": lambda term: frame_of(
        term=term + 1, heartbeat=peer_pb2.Heartbeat(leader_commit=10**9)
    ),
    "the largest term": lambda _: frame_of(term=2**64 - 1, heartbeat=peer_pb2.Heartbeat()),
    "a term that nobody reaches": lambda _: frame_of(term=2**61, heartbeat=peer_pb2.Heartbeat()),
    "a wish for an election": lambda term: frame_of(term=term, timeout_now=peer_pb2.TimeoutNow()),
    "an acknowledgement of what is not there": lambda term: frame_of(
        term=term,
        append_entries_reply=peer_pb2.AppendEntriesReply(success=True, match_index=10**9),
    ),
    "a snapshot without data": lambda term: frame_of(
        term=term + 1,
        install_snapshot=peer_pb2.InstallSnapshot(
            last_included_index=10**9, last_included_term=term
        ),
    ),
    "bytes that are no membership": lambda term: frame_of(
        term=term + 1,
        append_entries=peer_pb2.AppendEntries(
            entries=[log_pb2.Entry(term=term + 1, index=1, kind=2, payload=b"\xff\xff")]  # type: ignore[arg-type]
        ),
    ),
}


@pytest.fixture(
    params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=["no secret", "secret"]
)
async def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> object:
    settings = ""
    if request.param:
        secret = tmp_path / "secret"
        secret_new(secret)
        settings = f"--cluster-secret-file {secret}"
    async with Cluster(tmp_path, 3, settings=settings) as cluster:
        async with cluster.client() as client:
            await client.put("precious", "1")
        yield cluster


async def test_no_message_of_an_unknown_caller_harms_a_node(cluster: Cluster) -> None:
    for name, frame in ATTACKS.items():
        for node in cluster.nodes.values():
            term = (await status_of(node)).header.term
            try:
                said = await attack(node, [frame(term)])
            except HandshakeFailed:
                continue  # it can't prove that it knows the secret, nor does it know the node's
            assert said.admitted, f"{name}: {said}"
            assert node.running, f"{name}: {node.log()[-2000:]}"
        await assert_unharmed(cluster)


async def test_an_unproven_refusal_as_removed_is_ignored(cluster: Cluster) -> None:
    async def refuse(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        await context.abort(
            grpc.StatusCode.FAILED_PRECONDITION, "you are removed", ((REASON_KEY, "REMOVED"),)
        )

    server = grpc.aio.server()
    methods = {"Connect": grpc.stream_stream_rpc_method_handler(refuse)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("raftkv.rpc.v1.Peer", methods),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        for node in cluster.nodes.values():
            with contextlib.suppress(HandshakeFailed):
                await attack(node, [], address=f"127.0.0.1:{port}")
        await assert_unharmed(cluster)
    finally:
        await server.stop(None)


async def test_forwarded_commands_are_validated_as_those_of_clients(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster:
        leader = cluster.nodes[await cluster.leader()]
        async with cluster.client() as client:
            await client.put("precious", "1")
        term = (await status_of(leader)).header.term

        def batch(key: bytes, value: bytes) -> bytes:
            command = kv_pb2.Command(put=kv_pb2.Put(key=key, value=value))
            return kv_pb2.CommandBatch(commands=[command]).SerializeToString()

        bad = [batch(b"", b"no key"), b"\xff\xff\xff", batch(b"huge", b"z" * 3_000_000)]
        submissions = [
            log_pb2.Submission(origin=77, number=number, commands=commands)
            for number, commands in enumerate(bad, start=1)
        ]
        forward = peer_pb2.Forward(term=term, submissions=submissions)
        said = await attack(leader, [peer_pb2.Frame(forwards=[forward])])
        assert said.admitted
        await assert_unharmed(cluster)
        async with cluster.client() as client:
            found = await client.range_prefix("")
            assert {kv.key for kv in found.kvs} == {b"precious", b"after"}


async def test_nodes_with_different_secrets_found_no_cluster(tmp_path: Path) -> None:
    secrets = [tmp_path / "one", tmp_path / "other"]
    for secret in secrets:
        secret_new(secret)
    cluster = Cluster(tmp_path, 3)
    try:
        for node_id, secret in ((1, secrets[0]), (2, secrets[0]), (3, secrets[1])):
            cluster.settings = ["--cluster-secret-file", str(secret)]
            cluster.start(node_id)

        async def said() -> bool:
            with contextlib.suppress(raftkv.Unavailable):
                return "another cluster secret" in (await cluster.status(1)).not_serving
            return False

        await eventually(said, "node 1 says that node 3 has another secret")
    finally:
        for node in cluster.nodes.values():
            node.kill()

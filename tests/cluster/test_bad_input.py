"""What clients, operators and strangers get wrong: each is told, and no node is the worse for it.

One cluster for all of it, through our client, a generic gRPC client and the command line.
"""

from __future__ import annotations

import asyncio
import math
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import raftkv
from raftkv import errors, op
from raftkv.cli.exit_codes import ExitCode
from raftkv.errors import Outcome, RaftkvError
from raftkv.peer.handshake import CONNECT, HELLO_KEY, REASON_KEY, PeerIdentity, hello
from raftkv.raft.entry import Address
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, kv_pb2
from raftkv.storage.directory import read_identity
from raftkv.storage.ports import Start
from raftkv.versions import VersionRange
from raftkv.wire.failures import error_of
from raftkv.wire.grpc_status import error_of_call
from tests.cluster.cluster import Cluster, NodeProcess, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

PIPELINE = "/raftkv.rpc.v1.Pipeline/Open"
PATIENCE_S = 20.0
REQUESTS_PER_CLIENT_MAX = 16
REQUESTS_MAX = 64
LONG_KEY = b"k" * 8193
LONG_VALUE = b"v" * (1024 * 1024 + 1)
HUGE = 2**63 - 1
STRANGER, NOWHERE = 999, Address("127.0.0.1:9", "127.0.0.1:9")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    settings = (
        f"--set requests_per_client_max={REQUESTS_PER_CLIENT_MAX}"
        f" --set submissions_in_flight_max={REQUESTS_MAX}"
    )
    async with Cluster(tmp_path_factory.mktemp("bad-input"), 3, settings=settings) as running:
        async with running.client() as client:
            await client.put("canary", "sings")
            revision = (await client.put("history", "new")).revision
            await client.put("history", "newer")
            await client.compact(revision + 1)
        yield running


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def unharmed(cluster: Cluster) -> AsyncIterator[None]:
    """After each test: every node runs, and what was acknowledged before is there."""
    yield
    for node_id, node in cluster.nodes.items():
        assert node.running, node.log()[-2000:]
        async with cluster.client(node_id) as client:
            item = await client.get("canary", timeout=PATIENCE_S)
            assert item is not None
            assert item.value == b"sings"
        assert '"level": "critical"' not in node.log()


@pytest_asyncio.fixture(loop_scope="module")
async def client(cluster: Cluster) -> AsyncIterator[raftkv.Client]:
    async with cluster.client() as connected:
        yield connected


@pytest_asyncio.fixture(loop_scope="module")
async def leader(cluster: Cluster) -> AsyncIterator[grpc.aio.Channel]:
    """A generic gRPC client of the leader."""
    node = cluster.nodes[await cluster.leader()]
    async with grpc.aio.insecure_channel(node.client_address) as channel:
        yield channel


# ---- our client ------------------------------------------------------------------------

Ask = Callable[[raftkv.Client], Awaitable[object]]
CLIENT: dict[str, tuple[Ask, type[RaftkvError], str]] = {
    "an empty key": (lambda c: c.put("", "v"), errors.InvalidRequest, "at least one byte"),
    "a long key": (lambda c: c.put(LONG_KEY, "v"), errors.TooLarge, "limit is 8192; shorten"),
    "a long value": (lambda c: c.put("k", LONG_VALUE), errors.TooLarge, "limit is 1048576; split"),
    "a large request": (
        lambda c: c.txn(success=[op.put(f"k{n}", LONG_VALUE[:-1]) for n in range(2)]),
        errors.TooLarge,
        "limit is 1572864; split it",
    ),
    "a key put twice": (
        lambda c: c.txn(success=[op.put("k", "1"), op.put("k", "2")]),
        errors.InvalidRequest,
        "put twice",
    ),
    "129 operations": (
        lambda c: c.txn(success=[op.put(f"k{n}", "") for n in range(129)]),
        errors.TooLarge,
        "limit is 128; split the transaction",
    ),
    "a future revision": (
        lambda c: c.get("k", revision=HUGE),
        errors.RevisionInFuture,
        "does not exist yet",
    ),
    "a compacted revision": (
        lambda c: c.get("history", revision=1),
        errors.RevisionCompacted,
        "compacted",
    ),
    "a revision compacted twice": (lambda c: c.compact(1), errors.RevisionCompacted, "already"),
    "an unknown lease": (
        lambda c: c.put("k", "v", lease=404),
        errors.LeaseNotFound,
        "grant a new one",
    ),
    "an unknown lease to renew": (lambda c: c.lease_renew(404), errors.LeaseNotFound, "grant"),
    "an endless lease": (lambda c: c.lease_grant(1e15), errors.InvalidRequest, "shorter time"),
    "an unknown member": (
        lambda c: c.member_remove(404),
        errors.MemberUnknown,
        "the members are 1, 2, 3",
    ),
    "an unknown leader to be": (lambda c: c.transfer_leader(404), errors.MemberUnknown, "404"),
    "a bad address": (lambda c: c.member_add(4, "x", "y:1"), errors.InvalidRequest, "host:port"),
    "negative time": (lambda c: c.put("k", "v", timeout=-1), errors.InvalidRequest, "from 0"),
    "a time that is no number": (
        lambda c: c.put("k", "v", timeout=math.nan),
        errors.InvalidRequest,
        "from 0",
    ),
}


@pytest.mark.parametrize("what", CLIENT)
async def test_the_client_raises_a_typed_error_that_says_what_to_do(
    client: raftkv.Client, what: str
) -> None:
    ask, kind, advice = CLIENT[what]
    with pytest.raises(kind, match=advice) as refused:
        await ask(client)
    assert type(refused.value) is kind
    assert refused.value.outcome is Outcome.NOT_APPLIED


@pytest.mark.parametrize("timeout", [1e9, 1e300, math.inf])
async def test_a_huge_timeout_is_as_good_as_the_longest(
    client: raftkv.Client, timeout: float
) -> None:
    await client.put("k", "v", timeout=timeout)
    assert await client.get("k", timeout=timeout) is not None


async def test_a_bad_call_fails_alone_among_good_ones(client: raftkv.Client) -> None:
    good = [client.put(f"good/{n}", "v") for n in range(20)]
    bad = [client.txn(success=[op.put("k", "1"), op.put("k", "2")]) for _ in range(5)]
    answers = await asyncio.gather(*good, *bad, return_exceptions=True)
    assert [type(each) for each in answers[20:]] == [errors.InvalidRequest] * 5
    found = await client.range_prefix("good/")
    assert found.count == 20
    assert not any(isinstance(each, BaseException) for each in answers[:20])


# ---- a generic gRPC client -------------------------------------------------------------


def execute(**command: Any) -> tuple[str, Any]:
    request = api_pb2.ExecuteRequest(command=kv_pb2.Command(**command))
    return "/raftkv.rpc.v1.KV/Execute", request


def txn(*operations: kv_pb2.Operation) -> tuple[str, Any]:
    return execute(transaction=kv_pb2.Transaction(success=operations))


def read(**fields: Any) -> tuple[str, Any]:
    return "/raftkv.rpc.v1.KV/Range", api_pb2.RangeRequest(range=kv_pb2.Range(**fields))


def put_of(key: bytes, value: bytes = b"") -> kv_pb2.Operation:
    return kv_pb2.Operation(put=kv_pb2.Put(key=key, value=value))


def of_node(method: str, node_id: int) -> tuple[str, Any]:
    requests = {
        "MemberRemove": api_pb2.MemberRemoveRequest,
        "MemberPromote": api_pb2.MemberPromoteRequest,
        "TransferLeader": api_pb2.TransferLeaderRequest,
    }
    return f"/raftkv.rpc.v1.Cluster/{method}", requests[method](node_id=node_id)


UNARY: dict[str, tuple[tuple[str, Any], str, type[RaftkvError], str]] = {
    "no command": (execute(), "INVALID_ARGUMENT", errors.InvalidRequest, "say what to do"),
    "an empty key": (
        execute(put=kv_pb2.Put()),
        "INVALID_ARGUMENT",
        errors.InvalidRequest,
        "put.key is empty",
    ),
    "a long key": (
        execute(put=kv_pb2.Put(key=LONG_KEY)),
        "INVALID_ARGUMENT",
        errors.TooLarge,
        "8192",
    ),
    "a long value": (
        execute(put=kv_pb2.Put(key=b"k", value=LONG_VALUE)),
        "INVALID_ARGUMENT",
        errors.TooLarge,
        "1048576",
    ),
    "a large request": (
        txn(put_of(b"k1", LONG_VALUE[:-1]), put_of(b"k2", LONG_VALUE[:-1])),
        "INVALID_ARGUMENT",
        errors.TooLarge,
        "1572864",
    ),
    "a key put twice": (
        txn(put_of(b"k"), put_of(b"k")),
        "INVALID_ARGUMENT",
        errors.InvalidRequest,
        "put twice",
    ),
    "129 operations": (
        txn(*(put_of(b"%d" % number) for number in range(129))),
        "INVALID_ARGUMENT",
        errors.InvalidRequest,
        "limit is 128",
    ),
    "an operation that is not set": (
        txn(kv_pb2.Operation()),
        "INVALID_ARGUMENT",
        errors.InvalidRequest,
        "operation of the transaction is not set",
    ),
    "an unknown order": (
        read(key=b"a", range_end=b"b", sort_order=99),
        "INVALID_ARGUMENT",
        errors.InvalidRequest,
        "use NONE",
    ),
    "a future revision": (
        read(key=b"k", revision=HUGE),
        "OUT_OF_RANGE",
        errors.RevisionInFuture,
        "does not exist yet",
    ),
    "a compacted revision": (
        read(key=b"history", revision=1),
        "OUT_OF_RANGE",
        errors.RevisionCompacted,
        "compacted",
    ),
    "an unknown lease": (
        execute(put=kv_pb2.Put(key=b"k", lease=404)),
        "NOT_FOUND",
        errors.LeaseNotFound,
        "grant a new one",
    ),
    "a node id of 0": (
        of_node("MemberRemove", 0),
        "INVALID_ARGUMENT",
        errors.InvalidRequest,
        "must be from 1",
    ),
    "a node id that is too large": (
        of_node("MemberPromote", 2**64 - 1),
        "INVALID_ARGUMENT",
        errors.InvalidRequest,
        "must be from 1",
    ),
    "an unknown member": (
        of_node("MemberPromote", 404),
        "NOT_FOUND",
        errors.MemberUnknown,
        "the members are 1, 2, 3",
    ),
    "an unknown leader to be": (
        of_node("TransferLeader", 404),
        "NOT_FOUND",
        errors.MemberUnknown,
        "the members are 1, 2, 3",
    ),
    "an address without end": (
        (
            "/raftkv.rpc.v1.Cluster/MemberAdd",
            api_pb2.MemberAddRequest(
                member=api_pb2.Member(node_id=4, peer_address="x:" + "9" * 5000)
            ),
        ),
        "INVALID_ARGUMENT",
        errors.InvalidRequest,
        "host:port",
    ),
    "a long key put twice": (
        txn(put_of(b"\xff" * 8192), put_of(b"\xff" * 8192)),
        "INVALID_ARGUMENT",
        errors.InvalidRequest,
        "let each branch write a key once",
    ),
    "an unknown log level": (
        ("/raftkv.rpc.v1.Cluster/SetLogLevel", api_pb2.SetLogLevelRequest(level="loud")),
        "INVALID_ARGUMENT",
        errors.InvalidRequest,
        "debug, info, warning, error",
    ),
}


@pytest.mark.parametrize("what", UNARY)
async def test_a_generic_client_gets_code_reason_and_outcome(
    leader: grpc.aio.Channel, what: str
) -> None:
    (method, request), code, kind, advice = UNARY[what]
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await leader.unary_unary(method)(request.SerializeToString(), timeout=PATIENCE_S)
    assert failed.value.code().name == code
    error = error_of_call(failed.value)
    assert type(error) is kind
    assert advice in error.message
    assert error.outcome is Outcome.NOT_APPLIED


async def test_what_grpc_itself_refuses_has_its_codes(leader: grpc.aio.Channel) -> None:
    for method, request, code in (
        ("/raftkv.rpc.v1.KV/Nothing", b"", grpc.StatusCode.UNIMPLEMENTED),
        ("/nobody.Nothing/Nothing", b"", grpc.StatusCode.UNIMPLEMENTED),
        ("/raftkv.rpc.v1.KV/Execute", bytes(33 << 20), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await leader.unary_unary(method)(request, timeout=PATIENCE_S)
        assert failed.value.code() is code


@pytest.mark.parametrize("timeout", [-1, 0.000_000_1, 1e9])
async def test_a_generic_client_s_odd_timeout_ends_in_time_or_in_an_answer(
    leader: grpc.aio.Channel, timeout: float
) -> None:
    _, request = read(key=b"canary")
    try:
        await api_pb2_grpc.KVStub(leader).Range(request, timeout=timeout)
    except grpc.aio.AioRpcError as failed:
        assert failed.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # noqa: PT017


async def test_over_a_bound_a_generic_client_is_told_when_to_come_back(
    cluster: Cluster, leader: grpc.aio.Channel
) -> None:
    kv = api_pb2_grpc.KVStub(leader)
    _, request = execute(put=kv_pb2.Put(key=b"crowd"))
    async with followers_paused(cluster):
        calls = [kv.Execute(request, timeout=PATIENCE_S) for _ in range(REQUESTS_MAX + 1)]
        ends = [asyncio.create_task(ended(call)) for call in calls]
        over = await asyncio.wait_for(next(asyncio.as_completed(ends)), PATIENCE_S)
    assert over is not None
    assert over.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    error = error_of_call(over)
    assert type(error) is errors.Overloaded
    # One connection leaves as much free as it takes, so the bound of the node is not reached.
    assert re.search(r"requests in flight of this client: the bound of \d+ is", error.message)
    assert error.outcome is Outcome.SAFE_TO_RETRY
    assert 0 < error.retry_after_s < 1
    assert None in await asyncio.gather(*ends)  # what was let in was served
    async with cluster.client() as client:
        await client.put("crowd", "let in")


async def ended(call: Any) -> grpc.aio.AioRpcError | None:
    """How the call ended: None if it was answered."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    return None


@asynccontextmanager
async def followers_paused(cluster: Cluster) -> AsyncIterator[None]:
    """Nothing commits, so what is let in stays under way."""
    followers = cluster.nodes.keys() - {await cluster.leader()}
    for node_id in followers:
        cluster.nodes[node_id].send(signal.SIGSTOP)
    try:
        yield
    finally:
        for node_id in followers:
            cluster.nodes[node_id].send(signal.SIGCONT)


# ---- the pipeline ----------------------------------------------------------------------


def pipelined(number: int, key: bytes) -> bytes:
    batch = kv_pb2.CommandBatch(commands=[kv_pb2.Command(put=kv_pb2.Put(key=key))])
    return api_pb2.PipelineRequest(
        number=number, commands=batch.SerializeToString()
    ).SerializeToString()


async def test_over_a_bound_a_pipeline_is_told_when_to_come_back_and_goes_on(
    cluster: Cluster, leader: grpc.aio.Channel
) -> None:
    call = leader.stream_stream(PIPELINE)(timeout=PATIENCE_S)
    last = REQUESTS_PER_CLIENT_MAX + 1
    async with followers_paused(cluster):
        for number in range(1, last + 1):
            await call.write(pipelined(number, b"flood/%d" % number))
        over = api_pb2.PipelineReply.FromString(await call.read())
    error = error_of(over.failure)
    assert over.number == last
    assert type(error) is errors.Overloaded
    assert f"the bound of {REQUESTS_PER_CLIENT_MAX}" in error.message
    assert 0 < error.retry_after_s < 1

    replies = [api_pb2.PipelineReply.FromString(await call.read()) for _ in range(last - 1)]
    assert {each.number for each in replies} == set(range(1, last))
    call.cancel()
    async with cluster.client() as client:
        found = await client.range_prefix("flood/")
    acknowledged = {b"flood/%d" % each.number for each in replies if each.results}
    assert acknowledged
    assert acknowledged <= {kv.key for kv in found.kvs}


async def test_garbage_ends_its_own_pipeline_and_says_why(leader: grpc.aio.Channel) -> None:
    other = leader.stream_stream(PIPELINE)()
    call = leader.stream_stream(PIPELINE)(timeout=PATIENCE_S)
    await call.write(b"\xff\xff\xff no message")
    with pytest.raises(grpc.aio.AioRpcError, match="not a PipelineRequest") as failed:
        await call.read()
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await other.write(pipelined(1, b"beside"))
    assert api_pb2.PipelineReply.FromString(await other.read()).results
    other.cancel()


@pytest.mark.parametrize(
    "request_",
    [
        api_pb2.PipelineRequest(number=7),
        api_pb2.PipelineRequest(number=7, commands=b"\xff\xff\xff"),
        api_pb2.PipelineRequest(
            number=7, commands=kv_pb2.CommandBatch(commands=[{}]).SerializeToString()
        ),
    ],
    ids=["nothing", "garbage for commands", "a command that is not set"],
)
async def test_a_bad_request_is_answered_and_its_pipeline_goes_on(
    leader: grpc.aio.Channel, request_: api_pb2.PipelineRequest
) -> None:
    call = leader.stream_stream(PIPELINE)(timeout=PATIENCE_S)
    await call.write(request_.SerializeToString())
    reply = api_pb2.PipelineReply.FromString(await call.read())
    assert (reply.number, reply.failure.reason) == (7, "INVALID_REQUEST")
    assert reply.failure.outcome == Outcome.NOT_APPLIED
    await call.write(pipelined(8, b"goes on"))
    assert api_pb2.PipelineReply.FromString(await call.read()).results
    call.cancel()


async def test_clients_that_say_nothing_are_in_nobodys_way(
    cluster: Cluster, leader: grpc.aio.Channel, client: raftkv.Client
) -> None:
    silent = [leader.stream_stream(PIPELINE)() for _ in range(20)]
    host, port = cluster.nodes[await cluster.leader()].client_address.split(":")
    sockets = [await asyncio.open_connection(host, int(port)) for _ in range(20)]
    await client.put("k", "v", timeout=PATIENCE_S)
    for _, writer in sockets:
        writer.close()
    for each in silent:
        each.cancel()


# ---- the ports -------------------------------------------------------------------------

JUNK = (b"\0" * 4096, b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n junk")


async def test_garbage_on_either_port_harms_nobody(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        for address in (node.client_address, node.peer_address):
            host, port = address.split(":")
            for junk in JUNK:
                with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as stranger:
                    stranger.sendall(junk)


async def refusal(node: NodeProcess, introduction: bytes, *frames: bytes) -> str:
    """How a call of the peer port that begins like this is ended by the node."""
    metadata = ((HELLO_KEY, introduction),) if introduction else ()
    async with grpc.aio.insecure_channel(node.peer_address) as channel:
        call = channel.stream_stream(CONNECT)(metadata=metadata, timeout=PATIENCE_S)
        for frame in frames:
            assert await call.read()  # the challenge, then the admission
            await call.write(frame)
        assert await call.code() is grpc.StatusCode.FAILED_PRECONDITION
        return str(dict(await call.trailing_metadata())[REASON_KEY])


async def test_a_stranger_on_the_peer_port_is_told_why_it_is_not_let_in(cluster: Cluster) -> None:
    node = cluster.nodes[1]
    kept = read_identity(node.data_dir)
    assert kept is not None
    peer = PeerIdentity(
        kept.cluster_id, kept.incarnation, STRANGER, NOWHERE, disk_id=7, start=Start(1, 7)
    )
    foreign, other_life = replace(peer, cluster_id=7), replace(peer, incarnation=7)
    unborn, newer = replace(peer, incarnation=0), replace(peer, versions=VersionRange(98, 99))
    proof, garbage = b"", b"\xff\xff\xff no frame"  # without a secret the proof is empty
    for introduction, frames, reason in (
        (b"", (), "BAD_HELLO"),
        (garbage, (), "BAD_HELLO"),
        (hello(foreign, 1), (), "WRONG_CLUSTER"),
        (hello(other_life, 1), (), "WRONG_INCARNATION"),
        (hello(newer, 1), (), "WRONG_VERSION"),
        (hello(peer, 3), (), "WRONG_NODE"),
        (hello(unborn, 1), (proof,), "BAD_HELLO"),
        (hello(peer, 1), (garbage,), "BAD_HELLO"),
        (hello(peer, 1), (proof, garbage), "BREACH"),
        (hello(replace(peer, node_id=2), 1), (proof,), "OTHER_DISK"),
    ):
        assert await refusal(node, introduction, *frames) == reason


# ---- the command line ------------------------------------------------------------------


async def run(*arguments: str) -> tuple[int, str]:
    """Exit code and what was said on standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "raftkv", *arguments),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        _, said = await process.communicate()
    return process.returncode or 0, said.decode()


COMMANDS: dict[str, tuple[ExitCode, str]] = {
    "put  v": (ExitCode.USAGE, "key is empty"),
    f"put {LONG_KEY.decode()} v": (ExitCode.USAGE, "limit is 8192; shorten it"),
    f"get k --revision {HUGE}": (ExitCode.USAGE, "does not exist yet"),
    f"get k --revision {HUGE}0": (ExitCode.USAGE, "revision is"),
    "get history --revision 1": (ExitCode.USAGE, "compacted"),
    "put k v --lease 404": (ExitCode.REFUSED, "grant a new one"),
    "member remove 404": (ExitCode.REFUSED, "the members are 1, 2, 3"),
    "--timeout 0 get canary": (ExitCode.OK, ""),
    "--timeout -1 get k": (ExitCode.USAGE, "--timeout"),
    "--timeout nan get k": (ExitCode.USAGE, "--timeout"),
    "--timeout inf get canary": (ExitCode.OK, ""),
    "log-level loud": (ExitCode.USAGE, "debug"),
}


async def test_the_command_line_says_it_in_a_line_and_an_exit_code(cluster: Cluster) -> None:
    turns = asyncio.Semaphore(2)

    async def said(line: str) -> tuple[int, str]:
        async with turns:
            return await run("--endpoints", cluster.endpoints, *line.split(" "))

    answers = await asyncio.gather(*map(said, COMMANDS))
    for (line, (code, advice)), (exit_code, words) in zip(COMMANDS.items(), answers, strict=True):
        assert exit_code == code, (line[:40], words)
        assert advice in words, line[:40]
        assert "Traceback" not in words, line[:40]


SERVE: dict[str, tuple[str, str]] = {
    "--node-id 0": ("node_id (from flag --node-id) is 0", "from 1 to"),
    "--client-listen nowhere": ("client_listen", "host:port"),
    "--client-listen 0.0.0.0:1": ("loopback", "allow_insecure_network"),
    "--config {toml}": ("heartbeat_tick", "did you mean heartbeat_ticks"),
    "--set tick_ms=fast": ("tick_ms", "a whole number"),
    "--client-listen {taken} --peer-listen 127.0.0.1:1": ("client_listen", "in use by another"),
}


async def test_a_node_that_is_told_nonsense_does_not_start_and_leaves_no_trace(
    cluster: Cluster, tmp_path: Path
) -> None:
    toml = tmp_path / "node.toml"
    toml.write_text("heartbeat_tick = 2\n")
    turns = asyncio.Semaphore(2)

    async def said(line: str) -> tuple[int, str]:
        arguments = line.format(toml=toml, taken=cluster.nodes[1].client_address).split()
        async with turns:
            return await run("serve", "--data-dir", str(tmp_path / "data"), *arguments)

    answers = await asyncio.gather(*map(said, SERVE))
    for (line, advice), (exit_code, words) in zip(SERVE.items(), answers, strict=True):
        assert exit_code == ExitCode.USAGE, (line, words)
        assert all(each in words for each in advice), (line, words)
        assert "Traceback" not in words
    assert not (tmp_path / "data").exists()


# ---- what operators look at ------------------------------------------------------------


async def test_a_new_log_level_counts_at_once_on_every_node_asked(
    cluster: Cluster, client: raftkv.Client
) -> None:
    for node_id in (1, 2):
        address = cluster.nodes[node_id].client_address
        assert await client.set_log_level("debug", address) == "info"
        async with cluster.client(node_id) as direct:
            await direct.get("k")

    async def debugging(node_id: int) -> bool:
        return '"level": "debug"' in cluster.nodes[node_id].log()

    for node_id in (1, 2):
        await eventually(lambda node_id=node_id: debugging(node_id), f"{node_id} logs its calls")
        assert await client.set_log_level("info", cluster.nodes[node_id].client_address) == "debug"
    assert not await debugging(3)


async def test_health_and_reflection_answer_a_generic_client(leader: grpc.aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(leader)
    for service in ("", "raftkv"):
        reply = await health.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await health.Check(health_pb2.HealthCheckRequest(service="unheard of"), timeout=5)
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND

    ask = reflection_pb2.ServerReflectionRequest
    reflect = reflection_pb2_grpc.ServerReflectionStub(leader).ServerReflectionInfo
    listed, known, unknown = [
        answer
        async for answer in reflect(
            iter(
                [
                    ask(list_services=""),
                    ask(file_containing_symbol="raftkv.rpc.v1.KV"),
                    ask(file_containing_symbol="raftkv.rpc.v1.Nothing"),
                ]
            ),
            timeout=5,
        )
    ]
    names = {service.name for service in listed.list_services_response.service}
    assert {"raftkv.rpc.v1.KV", "raftkv.rpc.v1.Pipeline", "grpc.health.v1.Health"} <= names
    assert known.file_descriptor_response.file_descriptor_proto
    assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]

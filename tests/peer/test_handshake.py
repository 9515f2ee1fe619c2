"""Admission of callers: by their Hello, and by the proof that they know the cluster's secret."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc
import pytest
from loopback import (
    DEADLINE_S,
    INCARNATION,
    NOT_STARTED,
    Loopback,
    PeerSide,
    ending,
    open_call,
    stream_to,
)
from structlog.testing import capture_logs

from raftkv.errors import InvalidRequest, Unavailable
from raftkv.peer import server
from raftkv.peer.codec import encode_founding, fill_install_snapshot
from raftkv.peer.founders import ask_founder
from raftkv.peer.grpc_options import MESSAGE_BYTES_MAX
from raftkv.peer.handshake import (
    ADDRESS_MAX,
    CONNECT,
    HELLO_KEY,
    PROOF_KEY,
    REASON_KEY,
    SEND_SNAPSHOT,
    Caller,
    HandshakeRefused,
    Refusal,
    encode_hello,
)
from raftkv.peer.ports import FounderStage, Founding, Frame
from raftkv.peer.secret import ClusterSecret
from raftkv.raft.entry import Address, Membership, SnapshotPoint
from raftkv.raft.messages import Heartbeat, InstallSnapshot
from raftkv.rpc.v1 import peer_pb2
from raftkv.storage.ports import Checkpoint, Start
from raftkv.versions import SUPPORTED, VersionRange

SECRET, OTHER = b"the cluster's own secret", b"another cluster's secret"
BEAT = Heartbeat(1, 2, 4, 0, 1)


def changed(said: bytes, **fields: object) -> bytes:
    """A Hello with other words in it."""
    wire = peer_pb2.Hello.FromString(said)
    for name, value in fields.items():
        setattr(wire, name, value)
    return wire.SerializeToString()


async def refusal(side: PeerSide, said: bytes | None) -> str:
    """Call Connect with this Hello; returns the reason of the refusal."""
    metadata = () if said is None else ((HELLO_KEY, said),)
    async with grpc.aio.insecure_channel(side.address) as channel:
        return str((await ending(channel.stream_stream(CONNECT)(metadata=metadata)))[REASON_KEY])


async def refusal_of_proof(side: PeerSide, said: bytes, proof: bytes, method: str = CONNECT) -> str:
    """The same, with a proof in the first message."""
    async with grpc.aio.insecure_channel(side.address) as channel:
        call, _ = await open_call(channel, said, method=method)
        await call.write(first_message(method, proof))
        return str((await ending(call))[REASON_KEY])


def first_message(method: str, proof: bytes) -> bytes:
    if method == CONNECT:
        return peer_pb2.Frame(proof=proof).SerializeToString()
    membership = Membership(frozenset({1}), addresses={1: Address("a:1", "a:2")})
    opening = peer_pb2.SnapshotChunk(term=9, total_bytes=1, proof=proof)
    offer = InstallSnapshot(1, 2, 9, SnapshotPoint(1000, 8, membership))
    fill_install_snapshot(offer, opening.snapshot)
    return opening.SerializeToString()


# ---- the caller's Hello ------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"cluster_id": 8}, "WRONG_CLUSTER"),
        ({"cluster_id": 0}, "WRONG_CLUSTER"),
        ({"incarnation": INCARNATION + 1}, "WRONG_INCARNATION"),
        ({"to": 3}, "WRONG_NODE"),
        ({"node_id": 2}, "WRONG_NODE"),
        ({"node_id": 0}, "BAD_HELLO"),
        ({"node_id": 2**63}, "BAD_HELLO"),
        ({"last_log_index": 2**63}, "BAD_HELLO"),
        ({"nonce": b""}, "BAD_HELLO"),
        ({"peer_address": ""}, "BAD_HELLO"),
        ({"peer_address": "db1"}, "BAD_HELLO"),
        ({"peer_address": "db 1:7511"}, "BAD_HELLO"),
        ({"peer_address": "unix:/tmp/x:1"}, "BAD_HELLO"),
        ({"peer_address": "d" * ADDRESS_MAX + ":1"}, "BAD_HELLO"),
        ({"client_address": ""}, "BAD_HELLO"),
        ({"client_address": "db1:7411\n"}, "BAD_HELLO"),
        ({"version_min": SUPPORTED.maximum + 1, "version_max": 99}, "WRONG_VERSION"),
    ],
)
async def test_a_caller_of_another_cluster_node_or_version_is_refused_with_the_reason(
    loopback: Loopback, said: dict[str, object], reason: str
) -> None:
    one, two = await loopback.open(1), await loopback.open(2)
    assert await refusal(two, changed(encode_hello(one.identity, 2), **said)) == reason
    assert two.handler.callers == []


async def test_a_caller_without_a_common_cluster_version_is_refused(loopback: Loopback) -> None:
    two = await loopback.open(2, versions=VersionRange(3, 5))
    old = await loopback.open(1, versions=VersionRange(1, 2))
    assert await refusal(two, encode_hello(old.identity, 2)) == "WRONG_VERSION"


@pytest.mark.parametrize("said", [None, b"", b"\xff\xff"])
async def test_a_caller_without_a_hello_is_refused(loopback: Loopback, said: bytes | None) -> None:
    two = await loopback.open(2)
    assert await refusal(two, said) == "BAD_HELLO"


async def test_the_handler_gets_the_caller_and_its_disk(loopback: Loopback) -> None:
    one = await loopback.open(1, disk_id=0xD15C, secret=SECRET)
    two = await loopback.open(2, secret=SECRET)
    one.handler.last_log_index = 77
    one.connect(two)
    await one.until_connected(2)
    assert two.handler.callers == [
        Caller(
            node_id=1,
            address=one.identity.address,
            incarnation=INCARNATION,
            disk_id=0xD15C,
            start=Start(1, 1),
            versions=SUPPORTED,
            last_log_index=77,
            proven=True,
        )
    ]


async def test_without_a_secret_no_caller_is_proven(loopback: Loopback) -> None:
    one, two = await loopback.pair()
    assert [caller.proven for caller in one.handler.callers + two.handler.callers] == [False] * 2


@pytest.mark.parametrize("method", [CONNECT, SEND_SNAPSHOT])
async def test_a_node_that_has_not_started_admits_no_caller(
    loopback: Loopback, method: str
) -> None:
    one, two = await loopback.open(1), await loopback.open(2, started=False)
    assert (
        await refusal_of_proof(two, encode_hello(one.identity, 2), b"", method)
        == NOT_STARTED.reason
    )
    two.admit_peers()
    one.connect(two)
    await one.until_connected(2)


@pytest.mark.parametrize("method", [CONNECT, SEND_SNAPSHOT])
async def test_a_caller_without_a_cluster_does_not_reach_the_handler(
    loopback: Loopback, method: str
) -> None:
    one, two = await loopback.open(1, incarnation=0), await loopback.open(2)
    assert await refusal_of_proof(two, encode_hello(one.identity, 2), b"", method) == "BAD_HELLO"
    assert two.handler.callers == []


@pytest.mark.parametrize("method", [CONNECT, SEND_SNAPSHOT])
async def test_a_caller_that_the_handler_refuses_gets_the_reason(
    loopback: Loopback, method: str
) -> None:
    one, two = await loopback.open(1), await loopback.open(2)
    two.handler.refusals_of[1] = HandshakeRefused(Refusal.OLDER_COPY, "an older copy")
    assert await refusal_of_proof(two, encode_hello(one.identity, 2), b"", method) == "OLDER_COPY"


# ---- proofs ----------------------------------------------------------------------------


async def test_nodes_with_the_same_secret_connect(loopback: Loopback) -> None:
    one, two = await loopback.open(1, secret=SECRET), await loopback.open(2, secret=SECRET)
    one.connect(two)
    await one.until_connected(2)
    one.links.send(2, Frame((BEAT,)))
    await two.handler.until(lambda: two.handler.messages == [BEAT])


@pytest.mark.parametrize(
    ("caller", "callee"), [(SECRET, OTHER), (SECRET, b""), (b"", SECRET), (OTHER, SECRET)]
)
async def test_a_wrong_or_missing_secret_on_one_side_prevents_admission(
    loopback: Loopback, caller: bytes, callee: bytes
) -> None:
    one, two = await loopback.open(1, secret=caller), await loopback.open(2, secret=callee)
    one.connect(two)
    await one.handler.until(lambda: one.handler.refusals != [])
    by, refused = one.handler.refusals[0]
    assert (by, refused.reason) == (2, Refusal.WRONG_SECRET)
    assert "cluster_secret_file" in refused.message
    assert one.links.connected == frozenset()
    assert two.handler.callers == []


@pytest.mark.parametrize("method", [CONNECT, SEND_SNAPSHOT])
@pytest.mark.parametrize("secret", [b"", OTHER])
async def test_the_callee_requires_a_proof(loopback: Loopback, method: str, secret: bytes) -> None:
    """A caller that does not check the callee's proof."""
    one, two = await loopback.open(1), await loopback.open(2, secret=SECRET)
    said = encode_hello(one.identity, 2)
    async with grpc.aio.insecure_channel(two.address) as channel:
        call, proof = await open_call(channel, said, ClusterSecret(secret), method)
        await call.write(first_message(method, proof))
        assert (await ending(call))[REASON_KEY] == "WRONG_SECRET"
    assert two.handler.callers == []


@pytest.mark.parametrize("method", [CONNECT, SEND_SNAPSHOT])
async def test_a_replayed_proof_is_refused(loopback: Loopback, method: str) -> None:
    one, two = await loopback.open(1, secret=SECRET), await loopback.open(2, secret=SECRET)
    said = encode_hello(one.identity, 2)
    async with grpc.aio.insecure_channel(two.address) as channel:
        call, proof = await open_call(channel, said, one.secret)
        await call.write(first_message(CONNECT, proof))
        assert peer_pb2.PeerReply.FromString(await call.read()).admitted
    assert await refusal_of_proof(two, said, proof, method) == "WRONG_SECRET"


@pytest.mark.parametrize(
    "tampered",
    [
        {"node_id": 3},
        {"disk_id": 99},
        {"start_number": 99},
        {"last_log_index": 99},
        {"peer_address": "elsewhere:1"},
        {"incarnation": 0},
    ],
)
async def test_a_modified_hello_is_refused(loopback: Loopback, tampered: dict[str, object]) -> None:
    one, two = await loopback.open(1, secret=SECRET), await loopback.open(2, secret=SECRET)
    said = encode_hello(one.identity, 2)
    async with grpc.aio.insecure_channel(two.address) as channel:
        call = channel.stream_stream(CONNECT)(metadata=((HELLO_KEY, changed(said, **tampered)),))
        challenge = peer_pb2.PeerReply.FromString(await call.read()).challenge
        # The callee proves to its caller only that it has received the Hello.
        assert challenge.proof != one.secret.of_callee(said, challenge.nonce)
        await call.write(first_message(CONNECT, one.secret.of_caller(said, challenge.nonce)))
        assert (await ending(call))[REASON_KEY] == "WRONG_SECRET"
    assert two.handler.callers == []


async def test_a_malformed_first_message_is_refused(loopback: Loopback) -> None:
    one, two = await loopback.open(1), await loopback.open(2)
    for method, reason in ((CONNECT, "BAD_HELLO"), (SEND_SNAPSHOT, InvalidRequest.reason)):
        async with grpc.aio.insecure_channel(two.address) as channel:
            call, _ = await open_call(channel, encode_hello(one.identity, 2), method=method)
            await call.write(b"\xff\xff")
            assert (await ending(call))[REASON_KEY] == reason
    assert two.handler.callers == []


async def test_a_snapshot_needs_the_proof_too(loopback: Loopback, tmp_path) -> None:
    one, two = await loopback.open(1, secret=SECRET), await loopback.open(2, secret=OTHER)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "file").write_bytes(b"x")
    one.connect(two)
    membership = Membership(frozenset({1}), addresses={1: Address("a:1", "a:2")})
    offer = InstallSnapshot(1, 2, 9, SnapshotPoint(1000, 8, membership))
    with pytest.raises(Unavailable, match="cluster secret") as raised:
        await one.links.send_snapshot(2, offer, Checkpoint(tmp_path / "checkpoint", 1000, 8))
    assert raised.value.facts["peer_reason"] == "WRONG_SECRET"
    assert two.handler.callers == []


# ---- the callee ------------------------------------------------------------


class Impostor:
    """Answers calls to Connect as it likes."""

    def __init__(self, *, says: bytes = b"", refuses: tuple[tuple[str, str | bytes], ...] = ()):
        self.heard: list[bytes] = []
        self.hellos: list[bytes] = []
        self._says = says
        self._refuses = refuses

    async def connect(self, _: object, context: grpc.aio.ServicerContext) -> None:
        self.hellos.append(dict(context.invocation_metadata() or ())[HELLO_KEY])
        if self._refuses:
            details = "you are removed"
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, details, self._refuses)
        await context.write(self._says)
        if isinstance(data := await context.read(), bytes):
            self.heard.append(data)


@asynccontextmanager
async def answering(impostor: Impostor) -> AsyncIterator[str]:
    """Its address."""
    server = grpc.aio.server()
    methods = {"Connect": grpc.stream_stream_rpc_method_handler(impostor.connect)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("raftkv.rpc.v1.Peer", methods),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def challenge(**fields: object) -> bytes:
    given = {"node_id": 2, "nonce": b"n", "cluster_version": 1} | fields
    return peer_pb2.PeerReply(challenge=peer_pb2.Challenge(**given)).SerializeToString()


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (challenge(), Refusal.WRONG_SECRET),
        (challenge(proof=bytes(32)), Refusal.WRONG_SECRET),
        (b"\xff\xff", Refusal.BAD_HELLO),
        (b"", Refusal.WRONG_SECRET),
    ],
)
async def test_an_impostor_gets_neither_proof_nor_frames(
    loopback: Loopback, says: bytes, reason: Refusal
) -> None:
    one = await loopback.open(1, secret=SECRET)
    impostor = Impostor(says=says)
    async with answering(impostor) as address:
        one.links.set_peers({2: address})
        await one.handler.until(lambda: one.handler.refusals != [])
        assert one.handler.refusals[0][1].reason is reason
        assert one.handler.linked == impostor.heard == []


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (challenge(node_id=3), Refusal.WRONG_SECRET),
        (challenge(cluster_version=SUPPORTED.maximum + 1), Refusal.WRONG_VERSION),
    ],
)
async def test_a_callee_that_is_another_node_or_of_another_version_gets_no_frames(
    loopback: Loopback, says: bytes, reason: Refusal
) -> None:
    one = await loopback.open(1)
    async with answering(Impostor(says=says)) as address:
        one.links.set_peers({2: address})
        await one.handler.until(lambda: one.handler.refusals != [])
        assert one.handler.refusals[0][1].reason is reason


async def test_a_refusal_without_a_proof_is_ignored(loopback: Loopback) -> None:
    one = await loopback.open(1, secret=SECRET)
    impostor = Impostor(refuses=((REASON_KEY, "REMOVED"), (PROOF_KEY, bytes(32))))
    async with answering(impostor) as address:
        one.links.set_peers({2: address})
        async with asyncio.timeout(DEADLINE_S):
            while len(impostor.hellos) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
    assert one.handler.refusals == []


async def test_a_replayed_refusal_is_ignored(loopback: Loopback) -> None:
    one, two = await loopback.open(1, secret=SECRET), await loopback.open(2, secret=SECRET)
    two.handler.refusals_of[1] = HandshakeRefused(Refusal.REMOVED, "node 1 has been removed")
    said = encode_hello(one.identity, 2)
    async with grpc.aio.insecure_channel(two.address) as channel:
        call, proof = await open_call(channel, said, one.secret)
        await call.write(first_message(CONNECT, proof))
        refused = await ending(call)
    assert one.secret.fits(refused[PROOF_KEY], one.secret.of_refusal(said, "REMOVED"))
    replay = Impostor(refuses=((REASON_KEY, "REMOVED"), (PROOF_KEY, refused[PROOF_KEY])))
    async with answering(replay) as address:
        one.links.set_peers({2: address})
        async with asyncio.timeout(DEADLINE_S):
            while len(replay.hellos) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
    assert one.handler.refusals == []
    assert len(set(replay.hellos)) == len(replay.hellos)


async def test_a_refusal_whose_proof_is_for_another_reason_is_ignored(
    loopback: Loopback,
) -> None:
    one = await loopback.open(1, secret=SECRET)

    class Twister(Impostor):
        async def connect(self, request: object, context: grpc.aio.ServicerContext) -> None:
            said = dict(context.invocation_metadata() or ())[HELLO_KEY]
            self._refuses = (
                (REASON_KEY, "REMOVED"),
                (PROOF_KEY, one.secret.of_refusal(said, "NOT_READY")),
            )
            await super().connect(request, context)

    twister = Twister()
    async with answering(twister) as address:
        one.links.set_peers({2: address})
        async with asyncio.timeout(DEADLINE_S):
            while len(twister.hellos) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
    assert one.handler.refusals == []


# ---- callers that send no proof -------------------------------------------------------


async def test_a_caller_that_sends_no_proof_is_disconnected(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_TIMEOUT_S", 0.01)
    one, two = await loopback.open(1), await loopback.open(2)
    async with grpc.aio.insecure_channel(two.address) as channel:
        call, _ = await open_call(channel, encode_hello(one.identity, 2))
        async with asyncio.timeout(DEADLINE_S):
            assert await call.read() is grpc.aio.EOF
        snapshot, _ = await open_call(channel, encode_hello(one.identity, 2), method=SEND_SNAPSHOT)
        async with asyncio.timeout(DEADLINE_S):
            assert (await ending(snapshot))[REASON_KEY] == Unavailable.reason
    assert two.handler.callers == []


async def test_callers_without_a_proof_are_bounded_and_do_not_exclude_others(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_TIMEOUT_S", 1000.0)
    monkeypatch.setattr(server, "HANDSHAKES_MAX", 3)
    one, two = await loopback.open(1), await loopback.open(2)
    async with grpc.aio.insecure_channel(two.address) as channel:
        calls = [(await open_call(channel, encode_hello(one.identity, 2)))[0] for _ in range(6)]
        async with asyncio.timeout(DEADLINE_S):
            for oldest in calls[:3]:
                assert await oldest.read() is grpc.aio.EOF
        one.connect(two)
        await one.until_connected(2)
        async with asyncio.timeout(DEADLINE_S):
            assert await calls[3].read() is grpc.aio.EOF
        assert [call.done() for call in calls[4:]] == [False, False]


async def test_a_message_larger_than_any_frame_is_not_read_before_the_proof(
    loopback: Loopback,
) -> None:
    one, two = await loopback.open(1), await loopback.open(2)
    async with grpc.aio.insecure_channel(two.address) as channel:
        call, _ = await open_call(channel, encode_hello(one.identity, 2))
        with suppress(grpc.aio.AioRpcError):
            await call.write(bytes(MESSAGE_BYTES_MAX + 1))
        async with asyncio.timeout(DEADLINE_S):
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert two.handler.callers == []


async def test_a_stream_above_the_bound_ends_the_oldest_of_its_node(loopback: Loopback) -> None:
    one, two = await loopback.open(1), await loopback.open(2)
    await one.close()  # called back, it would open a stream of its own
    async with grpc.aio.insecure_channel(two.address) as channel:
        streams = [
            await stream_to(channel, one, 2) for _ in range(server.STREAMS_PER_CALLER_MAX + 1)
        ]
        async with asyncio.timeout(DEADLINE_S):
            assert await streams[0].read() is grpc.aio.EOF
        assert [stream.done() for stream in streams[1:]] == [False] * (len(streams) - 1)


async def test_streams_above_the_bound_in_one_turn_end_the_oldest_ones() -> None:
    admitted, ended, over = server.AdmittedStreams(), [], asyncio.Event()

    async def stream(number: int) -> None:
        try:
            async with admitted.slot(1):
                await over.wait()
        except TimeoutError:
            ended.append(number)

    count = server.STREAMS_PER_CALLER_MAX + 3
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        tasks = [group.create_task(stream(number)) for number in range(count)]
        while not all(task.done() for task in tasks[:3]):  # noqa: ASYNC110
            await asyncio.sleep(0)
        over.set()
    assert ended == [0, 1, 2]
    assert not admitted.full


async def test_admitted_streams_are_bounded(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "STREAMS_MAX", 1)
    one, two, three = [await loopback.open(node_id) for node_id in (1, 2, 3)]
    async with grpc.aio.insecure_channel(two.address) as channel:
        await stream_to(channel, one, 2)
        call, proof = await open_call(channel, encode_hello(three.identity, 2))
        await call.write(peer_pb2.Frame(proof=proof).SerializeToString())
        assert (await ending(call))[REASON_KEY] == Refusal.NOT_READY
        monkeypatch.setattr(server, "STREAMS_MAX", 100)
        await stream_to(channel, three, 2)


async def test_refusals_are_logged_once_a_second(loopback: Loopback) -> None:
    two = await loopback.open(2)
    with capture_logs() as lines:
        for _ in range(5):
            await refusal(two, None)
    assert [line["event"] for line in lines] == ["peer_refused"]


# ---- founders --------------------------------------------------------------------------

EMPTY = Founding(FounderStage.EMPTY, disk_id=9, founders=b"digest")


async def ask(one: PeerSide, two: PeerSide, said: Founding = EMPTY) -> Founding:
    return await ask_founder(one.credentials, 2, two.address, said)


async def founders(loopback: Loopback, **changed: object) -> tuple[PeerSide, PeerSide]:
    one = await loopback.open(1, secret=SECRET, incarnation=0, started=False)
    given = {"secret": SECRET, "incarnation": 0, "started": False} | changed
    return one, await loopback.open(2, **given)


async def test_a_founder_gets_an_answer_to_its_report(loopback: Loopback) -> None:
    one, two = await founders(loopback)
    assert await ask(one, two) == two.founder.reply
    assert two.founder.received == [(1, EMPTY)]


async def test_a_started_node_answers_founders_and_does_not_admit_them(
    loopback: Loopback,
) -> None:
    one, two = await founders(loopback, incarnation=INCARNATION, started=True)
    assert await ask(one, two) == two.founder.reply
    assert two.handler.callers == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"secret": OTHER}, "another cluster secret"),
        ({"secret": b""}, "another cluster secret"),
        ({"cluster_id": 8}, "this is cluster 0000000000000008"),
        ({"versions": VersionRange(7, 9)}, "cluster versions 7 to 9"),
    ],
)
async def test_a_refused_founder_gets_the_reason(
    loopback: Loopback, changed: dict[str, object], says: str
) -> None:
    one, two = await founders(loopback, **changed)
    with pytest.raises(Unavailable, match=says):
        await ask(one, two)
    assert two.founder.received == []


async def test_a_silent_or_absent_founder_is_unavailable(loopback: Loopback) -> None:
    one, two = await founders(loopback)
    await two.server.stop()
    with pytest.raises(Unavailable):
        await ask(one, two)


async def test_an_invalid_report_ends_the_founders_call(loopback: Loopback) -> None:
    one, two = await founders(loopback)
    async with grpc.aio.insecure_channel(two.address) as channel:
        call, proof = await open_call(channel, encode_hello(one.identity, 2), one.secret)
        said = encode_founding(Founding(FounderStage.STORED, incarnation=0, disk_id=9))
        await call.write(peer_pb2.Frame(proof=proof, founding=said).SerializeToString())
        assert (await ending(call))[REASON_KEY] == "BREACH"
    assert two.founder.received == []


async def test_a_founder_must_prove_the_secret(loopback: Loopback) -> None:
    one, two = await founders(loopback)
    async with grpc.aio.insecure_channel(two.address) as channel:
        call, _ = await open_call(channel, encode_hello(one.identity, 2))
        frame = peer_pb2.Frame(founding=encode_founding(EMPTY))
        await call.write(frame.SerializeToString())
        assert (await ending(call))[REASON_KEY] == "WRONG_SECRET"
    assert two.founder.received == []


async def test_a_proof_in_a_later_frame_is_ignored(loopback: Loopback) -> None:
    """Frames of a stream that was admitted are frames: a founding in them means nothing."""
    one, two = await loopback.open(1), await loopback.open(2)
    async with grpc.aio.insecure_channel(two.address) as channel:
        stream = await stream_to(channel, one, 2)
        frame = peer_pb2.Frame(founding=encode_founding(EMPTY), proof=b"x")
        await stream.write(frame.SerializeToString())
        await two.handler.until(lambda: two.handler.frames == [(1, Frame())])
    assert two.founder.received == []

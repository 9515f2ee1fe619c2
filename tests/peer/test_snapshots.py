"""Snapshots over real gRPC on loopback, and what a receiver does with chunks that are not right."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import google_crc32c
import grpc
import pytest
from loopback import Half, Loopback, Recorder, ending, introduce

from raftkv.errors import (
    ConnectionFailed,
    DamagedData,
    InvalidRequest,
    Overloaded,
    RaftkvError,
    StorageError,
    Unavailable,
)
from raftkv.peer.handshake import (
    REASON_KEY,
    SEND_SNAPSHOT,
    HandshakeRefused,
    PeerIdentity,
    Refusal,
    hello,
)
from raftkv.peer.ports import Frame
from raftkv.peer.snapshot_receive import SnapshotFiles, SnapshotReceiver
from raftkv.peer.snapshot_send import encode_chunks
from raftkv.raft.entry import Address, Membership, SnapshotPoint
from raftkv.raft.messages import Heartbeat, InstallSnapshot
from raftkv.rpc.v1 import peer_pb2
from raftkv.storage.ports import Checkpoint
from raftkv.wire.membership import fill_membership

MEMBERSHIP = Membership(
    frozenset((1, 2)), addresses={1: Address("a:1", "a:2"), 2: Address("b:1", "b:2")}
)
MESSAGE = InstallSnapshot(1, 2, 9, SnapshotPoint(1000, 8, MEMBERSHIP))

FILES = {
    "000012.sst": Random(5).randbytes(5_300_001),
    "CURRENT": b"MANIFEST-000004\n",
    "empty": b"",
    "blobs/000013.blob": Random(6).randbytes(700_000),
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    root = tmp_path / "checkpoint"
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return Checkpoint(root, 1000, 8)


def files_below(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def chunk(name: str, data: bytes, offset: int = 0, flip: int = 0) -> peer_pb2.SnapshotChunk:
    return peer_pb2.SnapshotChunk(
        file=name, offset=offset, data=data, crc32c=google_crc32c.value(data) ^ flip
    )


async def stream(
    sender: Half, receiver: Half, chunks: Iterable[bytes], *, ends: bool = False
) -> str:
    """Send chunks as they are and wait for the reason of the refusal.

    The chunk that is refused must be the last, or gRPC may tell of a failed write instead.
    """
    opening, *rest = chunks
    async with grpc.aio.insecure_channel(receiver.address) as channel:
        said = hello(sender.identity, 2)
        call, _ = await introduce(channel, said, sender.secret, SEND_SNAPSHOT)
        await call.write(opening)
        assert peer_pb2.PeerReply.FromString(await call.read()).admitted
        for each in rest:
            await call.write(each)
        if ends:
            await call.done_writing()
        return str((await ending(call))[REASON_KEY])


async def test_a_snapshot_arrives_intact_with_its_announcement(
    loopback: Loopback, checkpoint: Checkpoint
) -> None:
    one, two = await loopback.pair()
    await one.links.send_snapshot(2, MESSAGE, checkpoint)
    [(message, received)] = two.handler.finished
    assert message == MESSAGE
    assert files_below(received) == FILES


async def test_one_snapshot_after_another_is_taken(
    loopback: Loopback, checkpoint: Checkpoint
) -> None:
    one, two = await loopback.pair()
    later = InstallSnapshot(1, 2, 9, SnapshotPoint(2000, 9, MEMBERSHIP))
    await one.links.send_snapshot(2, MESSAGE, checkpoint)
    await one.links.send_snapshot(2, later, checkpoint)
    assert [message for message, _ in two.handler.finished] == [MESSAGE, later]


async def test_frames_flow_while_a_snapshot_does(
    loopback: Loopback, checkpoint: Checkpoint
) -> None:
    one, two = await loopback.pair()

    async def hear_a_heartbeat() -> None:
        one.links.send(2, Frame((Heartbeat(1, 2, 9, 0, 1),)))
        await two.handler.until(lambda: two.handler.frames != [])

    two.handler.before_finish = hear_a_heartbeat
    await one.links.send_snapshot(2, MESSAGE, checkpoint)
    assert two.handler.messages == [Heartbeat(1, 2, 9, 0, 1)]


async def test_a_flipped_bit_is_refused_and_the_link_survives(
    loopback: Loopback, checkpoint: Checkpoint
) -> None:
    one, two = await loopback.pair()
    *before, chosen = list(encode_chunks(checkpoint.path, MESSAGE))[:4]
    flipped = bytearray(chosen)
    flipped[len(flipped) // 2] ^= 0x10
    assert await stream(one, two, [*before, bytes(flipped)]) == DamagedData.reason
    assert two.handler.finished == []
    one.links.send(2, Frame((Heartbeat(1, 2, 9, 0, 1),)))
    await two.handler.until(lambda: two.handler.frames != [])
    assert one.handler.broken == []


async def test_a_file_outside_the_snapshot_is_refused_and_not_written(
    loopback: Loopback, checkpoint: Checkpoint
) -> None:
    one, two = await loopback.pair()
    opening = next(encode_chunks(checkpoint.path, MESSAGE))
    escape = chunk("../escaped", b"evil").SerializeToString()
    assert await stream(one, two, [opening, escape]) == InvalidRequest.reason
    assert not list(loopback.directory.rglob("escaped"))


async def test_a_stream_that_ends_early_installs_nothing(
    loopback: Loopback, checkpoint: Checkpoint
) -> None:
    one, two = await loopback.pair()
    chunks = list(encode_chunks(checkpoint.path, MESSAGE))
    assert await stream(one, two, chunks[:-1], ends=True) == Unavailable.reason
    assert two.handler.finished == []


async def test_a_snapshot_from_a_removed_node_is_refused(
    loopback: Loopback, checkpoint: Checkpoint
) -> None:
    one, two = await loopback.half(1), await loopback.half(2)
    two.handler.turned_away[1] = HandshakeRefused(Refusal.REMOVED, "node 1 has been removed")
    one.connect(two)
    with pytest.raises(Unavailable, match="node 1 has been removed") as raised:
        await one.links.send_snapshot(2, MESSAGE, checkpoint)
    assert raised.value.facts["peer_reason"] == "REMOVED"


async def test_a_snapshot_that_is_not_wanted_says_so_to_its_sender(
    loopback: Loopback, checkpoint: Checkpoint
) -> None:
    one, two = await loopback.pair()
    two.handler.refuse_snapshot = Unavailable("index 1000 is already applied")
    with pytest.raises(Unavailable, match="index 1000 is already applied"):
        await one.links.send_snapshot(2, MESSAGE, checkpoint)


async def test_a_second_snapshot_at_the_same_time_is_refused(
    loopback: Loopback, checkpoint: Checkpoint
) -> None:
    one, two = await loopback.pair()

    async def send_another() -> None:
        with pytest.raises(Unavailable) as raised:
            await one.links.send_snapshot(2, MESSAGE, checkpoint)
        assert raised.value.facts["peer_reason"] == Overloaded.reason

    two.handler.before_finish = send_another
    await one.links.send_snapshot(2, MESSAGE, checkpoint)
    assert len(two.handler.finished) == 1


async def test_a_refused_snapshot_makes_room_for_the_next(
    loopback: Loopback, checkpoint: Checkpoint
) -> None:
    one, two = await loopback.pair()
    opening = next(encode_chunks(checkpoint.path, MESSAGE))
    await stream(one, two, [opening, chunk("a", b"x", flip=1).SerializeToString()])
    later = InstallSnapshot(1, 2, 9, SnapshotPoint(2000, 9, MEMBERSHIP))
    await one.links.send_snapshot(2, later, checkpoint)
    assert [message for message, _ in two.handler.finished] == [later]


async def test_a_sender_that_vanishes_does_not_stop_an_installation(
    loopback: Loopback, checkpoint: Checkpoint
) -> None:
    one, two = await loopback.pair()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait_for_permission() -> None:
        begun.set()
        await go_on.wait()

    two.handler.before_finish = wait_for_permission
    sending = asyncio.ensure_future(one.links.send_snapshot(2, MESSAGE, checkpoint))
    await begun.wait()
    sending.cancel()
    await asyncio.wait([sending])
    go_on.set()
    await two.handler.until(lambda: two.handler.finished != [])


async def test_a_receiver_that_vanishes_is_an_error_of_the_sender(
    loopback: Loopback, checkpoint: Checkpoint
) -> None:
    one, two = await loopback.pair()
    two.handler.before_finish = two.server.stop
    with pytest.raises(Unavailable, match="node 2 did not take the snapshot"):
        await one.links.send_snapshot(2, MESSAGE, checkpoint)


async def test_a_receiver_that_makes_no_progress_is_given_up(
    loopback: Loopback, checkpoint: Checkpoint
) -> None:
    one, two = await loopback.half(1, stall_timeout_s=0.2), await loopback.half(2)
    one.connect(two)
    two.handler.before_finish = asyncio.Event().wait
    with pytest.raises(Unavailable, match=r"for 0\.2 s"):
        await one.links.send_snapshot(2, MESSAGE, checkpoint)


async def test_a_snapshot_for_a_stranger_is_refused_at_home(
    loopback: Loopback, checkpoint: Checkpoint
) -> None:
    one = await loopback.half(1)
    with pytest.raises(ConnectionFailed):
        await one.links.send_snapshot(2, MESSAGE, checkpoint)


async def test_files_that_can_not_be_read_are_a_storage_error(
    loopback: Loopback, tmp_path: Path
) -> None:
    one, two = await loopback.pair()
    with pytest.raises(StorageError, match="no files"):
        await one.links.send_snapshot(2, MESSAGE, Checkpoint(tmp_path / "gone", 1000, 8))
    assert two.handler.finished == []


async def test_a_silent_sender_is_given_up_and_makes_room(tmp_path: Path) -> None:

    with ThreadPoolExecutor(1) as disk:
        identity = PeerIdentity(7, 1, 2, Address("127.0.0.1:1", "127.0.0.1:2"))
        receiver = SnapshotReceiver(identity, Recorder(tmp_path), disk, 0.01)

        async def let_in() -> None:
            pass

        for index in (1, 2):
            opening = peer_pb2.SnapshotChunk(term=1, total_bytes=5)
            opening.snapshot.last_included_index = index
            opening.snapshot.last_included_term = 1
            fill_membership(MEMBERSHIP, opening.snapshot.membership)
            with pytest.raises(Unavailable, match="no snapshot data"):
                await receiver.receive(1, opening, asyncio.Event().wait, let_in)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "a\\b", "a/./b", "nul\0"],
)
def test_a_name_that_could_leave_the_directory_is_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(InvalidRequest, match="not the name of a file"):
        SnapshotFiles(root, 100).add(chunk(name, b"x"))
    assert list(tmp_path.rglob("*")) == [root]


@pytest.mark.parametrize(
    ("chunks", "error"),
    [
        ([chunk("a", b"12"), chunk("a", b"56", offset=4)], InvalidRequest),
        ([chunk("a", b"12"), chunk("a", b"12")], InvalidRequest),
        ([chunk("a", b"12", offset=3)], InvalidRequest),
        ([chunk("a", b"12"), chunk("b", b"34"), chunk("a", b"56", offset=2)], InvalidRequest),
        ([chunk("a", b"12"), chunk("b", b"34"), chunk("a", b"56")], InvalidRequest),
        ([chunk("a", b"123456789")], InvalidRequest),
        ([chunk("a", b"12", flip=4)], DamagedData),
        ([chunk("a", b"12"), chunk("a/b", b"34")], OSError),
    ],
    ids=["gap", "again", "no start", "goes back", "twice", "too much", "flipped", "file as dir"],
)
def test_chunks_that_do_not_fit_are_refused(
    tmp_path: Path, chunks: list[peer_pb2.SnapshotChunk], error: type[RaftkvError]
) -> None:
    *before, wrong = chunks
    files = SnapshotFiles(tmp_path, 8)
    try:
        for each in before:
            files.add(each)
        with pytest.raises(error):
            files.add(wrong)
    finally:
        files.close()


def test_a_snapshot_that_is_not_complete_does_not_finish(tmp_path: Path) -> None:
    files = SnapshotFiles(tmp_path, 8)
    files.add(chunk("a", b"1234"))
    with pytest.raises(InvalidRequest, match="4 of 8 bytes"):
        files.finish()
    files.close()

"""Links over real gRPC on loopback: order, reconnection, queues, bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest
from loopback import DEADLINE_S, Loopback, PeerSide, ending, stream_to
from structlog.testing import capture_logs

from raftkv.clocks import LamportTime
from raftkv.errors import AddressInUse, ConnectionFailed
from raftkv.peer import link, outbox
from raftkv.peer.handshake import REASON_KEY, Caller, HandshakeRefused, Refusal
from raftkv.peer.links import UNKNOWN_PEERS_MAX
from raftkv.peer.ports import Forward, Frame, Submission
from raftkv.raft.breach import ProtocolBreach
from raftkv.raft.entry import Entry, EntryKind, SnapshotPoint
from raftkv.raft.messages import AppendEntries, Heartbeat, InstallSnapshot, Message
from raftkv.storage.ports import Checkpoint

REMOVED = HandshakeRefused(Refusal.REMOVED, "node 1 has been removed from the cluster")


def append(index: int, payload: bytes = b"") -> AppendEntries:
    entry = Entry(4, index, EntryKind.NOOP, payload)
    return AppendEntries(1, 2, 4, index - 1, 4 if index > 1 else 0, 0, (entry,))


def heartbeat(read_round: int) -> Heartbeat:
    return Heartbeat(1, 2, 4, 0, read_round)


def indexes(messages: list[Message]) -> list[int]:
    return [m.entries[0].index for m in messages if isinstance(m, AppendEntries)]


async def test_a_frame_arrives_whole_with_its_sender(loopback: Loopback) -> None:
    one, two = await loopback.pair()
    frame = Frame(
        (append(1, b"x" * 30_000),),
        (Forward(4, 2, (Submission(11, 3, b"commands", 5),)),),
    )
    one.links.send(2, frame)
    await two.handler.until(lambda: len(two.handler.frames) == 1)
    assert two.handler.frames == [(1, frame)]


async def test_log_lines_after_a_frame_have_later_lamport_times_than_its_senders_before(
    loopback: Loopback,
) -> None:
    one, two = await loopback.pair()
    for count in range(1, 4):
        logged = [one.clock.tick() for _ in range(1000)]
        one.links.send(2, Frame((append(count), heartbeat(count))))
        await two.handler.until(lambda heard=count: len(two.handler.messages) == 2 * heard)
        assert two.clock.tick() > logged[-1]


@pytest.mark.parametrize("time", [2**32 + 1, 2**64 - 1])
async def test_a_lamport_time_beyond_the_bound_is_ignored(loopback: Loopback, time: int) -> None:
    one, two = await loopback.pair()
    one.clock._now = LamportTime(time)
    one.links.send(2, Frame((heartbeat(1),)))
    await two.handler.until(lambda: two.handler.messages == [heartbeat(1)])
    assert two.clock.now == LamportTime()


async def test_frames_arrive_in_order_and_none_is_lost(loopback: Loopback) -> None:
    one, two = await loopback.pair()
    for index in range(1, 1001):
        one.links.send(2, Frame((append(index, b"x" * (index % 97)),)))
        if index % 7 == 0:
            await asyncio.sleep(0)
    await two.handler.until(lambda: len(two.handler.messages) == 1000)
    assert indexes(two.handler.messages) == list(range(1, 1001))


async def test_frames_sent_in_one_turn_of_the_loop_arrive_as_one_frame(
    loopback: Loopback,
) -> None:
    one, two = await loopback.pair()
    for index in range(1, 6):
        one.links.send(2, Frame((append(index),)))
    await two.handler.until(lambda: len(two.handler.messages) == 5)
    assert len(two.handler.frames) == 1


async def test_each_of_three_nodes_receives_from_the_two_others(loopback: Loopback) -> None:
    halves = [await loopback.open(node) for node in (1, 2, 3)]
    for side in halves:
        others = [other for other in halves if other is not side]
        side.connect(*others)
        await side.until_connected(*(other.identity.node_id for other in others))
    for side in halves:
        for to in {1, 2, 3} - {side.identity.node_id}:
            side.links.send(to, Frame((heartbeat(side.identity.node_id),)))
    for side in halves:
        await side.handler.until(lambda heard=side.handler: len(heard.frames) == 2)
        senders = {sender for sender, _ in side.handler.frames}
        assert senders == {1, 2, 3} - {side.identity.node_id}


async def test_control_frames_overtake_queued_bulk_frames(loopback: Loopback) -> None:
    one, two = await loopback.pair()
    for index in range(1, 31):
        one.links.send(2, Frame((append(index, b"x" * (1 << 20)),)))
    await two.handler.until(lambda: len(two.handler.messages) >= 1)
    one.links.send(2, Frame((heartbeat(9),)))
    await two.handler.until(lambda: len(two.handler.messages) == 31)
    assert two.handler.messages.index(heartbeat(9)) < 20
    assert indexes(two.handler.messages) == list(range(1, 31))


async def test_a_full_link_drops_whole_frames_and_continues(loopback: Loopback) -> None:
    one, two = await loopback.pair()
    payload = b"x" * (1 << 20)
    for index in range(1, 101):
        one.links.send(2, Frame((append(index, payload),)))
    one.links.send(2, Frame((heartbeat(1),)))
    kept = outbox.BULK_BYTES_MAX // (1 << 20) - 1  # each frame is a little over 1 MiB
    await two.handler.until(lambda: len(two.handler.messages) == kept + 1)
    assert indexes(two.handler.messages) == list(range(1, kept + 1))
    one.links.send(2, Frame((append(101, payload),)))
    await two.handler.until(lambda: len(two.handler.messages) == kept + 2)
    assert indexes(two.handler.messages)[-1] == 101


async def test_a_link_reconnects_after_the_peer_restarts_and_reports_one_break(
    loopback: Loopback,
) -> None:
    one, two = await loopback.pair()
    await two.server.stop()
    await one.handler.until(lambda: one.handler.broken != [])
    assert one.links.connected == frozenset()
    one.links.send(2, Frame((heartbeat(1),)))
    await two.listen()
    await one.until_connected(2)
    one.links.send(2, Frame((heartbeat(2),)))
    await two.handler.until(lambda: two.handler.frames != [])
    assert two.handler.messages == [heartbeat(2)]
    assert one.handler.broken == [2]


async def levels_of_link_down(one: PeerSide, happens: Callable[[], Awaitable[object]]) -> list[str]:
    """How loud `one` is about its link to peer 2, up to when it has tried again once."""
    with capture_logs() as events:
        await happens()
        async with asyncio.timeout(DEADLINE_S):
            while not any(event["event"] == "peer_link_down" for event in events):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    downs = [event for event in events if event["event"] == "peer_link_down"]
    assert all(event.get("reason") != "" for event in downs)
    return [event["log_level"] for event in downs if event["node"] == one.identity.node_id]


async def test_a_peer_that_has_not_started_is_logged_as_info_and_a_lost_one_as_a_warning(
    loopback: Loopback,
) -> None:
    one, two = await loopback.open(1), await loopback.open(2)
    await two.server.stop()

    async def connect() -> None:
        one.connect(two)

    assert await levels_of_link_down(one, connect) == ["info"]
    await two.listen()
    await one.until_connected(2)
    assert (await levels_of_link_down(one, two.server.stop))[0] == "warning"


async def test_a_stopping_node_logs_no_warning_about_lost_peers(loopback: Loopback) -> None:
    one, two = await loopback.pair()
    one.links.leave()
    assert set(await levels_of_link_down(one, two.server.stop)) == {"info"}


async def test_a_refusal_is_logged_as_a_warning(loopback: Loopback) -> None:
    stranger, two = await loopback.open(1, cluster_id=8), await loopback.open(2)

    async def connect() -> None:
        stranger.connect(two)

    assert await levels_of_link_down(stranger, connect) == ["warning"]


async def test_a_link_reconnects_at_once_when_its_peer_connects_to_this_node(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = await loopback.open(1), await loopback.open(2)
    await two.server.stop()
    monkeypatch.setattr(link, "RECONNECT_DELAY_S_MIN", 1000.0)
    monkeypatch.setattr(link, "RECONNECT_DELAY_S_MAX", 1000.0)
    one.connect(two)
    async with asyncio.timeout(DEADLINE_S):
        while not await refused_connection(two.address):
            pass
    await two.listen()
    two.connect(one)
    await one.until_connected(2)


async def refused_connection(address: str) -> bool:
    host, port = address.split(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


async def test_a_silent_peer_breaks_the_link(loopback: Loopback) -> None:
    one, two = await loopback.open(1), await loopback.open(2)
    async with SilentProxy(two.address) as proxy:
        one.links.set_peers({2: proxy.address})
        await one.until_connected(2)
        proxy.silent = True
        await one.handler.until(lambda: one.handler.broken == [2])
        await one.links.close()


class SilentProxy:
    """Forwards TCP to `target`; `silent` swallows everything, as a cut cable does."""

    def __init__(self, target: str) -> None:
        self._host, port = target.split(":")
        self._port = int(port)
        self.silent = False
        self.called = False
        self.address = ""
        self._pumps: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> SilentProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.called = True
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                if not self.silent:
                    sink.write(data)
        except ConnectionError:
            pass
        finally:
            sink.close()


async def test_links_follow_the_membership(loopback: Loopback) -> None:
    one, two = await loopback.pair()
    three = await loopback.open(3)
    one.connect(two, three)
    await one.until_connected(2, 3)
    one.connect(three)
    assert one.links.connected == frozenset({3})
    one.links.send(2, Frame((heartbeat(1),)))
    one.links.send(3, Frame((heartbeat(2),)))
    await three.handler.until(lambda: three.handler.frames != [])
    assert two.handler.frames == []
    assert one.handler.broken == []


async def test_a_peer_that_moved_is_reached_at_its_new_address(loopback: Loopback) -> None:
    one, two = await loopback.pair()
    await two.close()
    moved = await loopback.open(2)
    one.connect(moved)
    await moved.handler.until(lambda: moved.handler.callers != [])
    await one.until_connected(2)
    one.links.send(2, Frame((heartbeat(1),)))
    await moved.handler.until(lambda: moved.handler.messages == [heartbeat(1)])


async def test_a_peer_that_moves_during_a_connection_attempt_is_reached_at_its_new_address(
    loopback: Loopback,
) -> None:
    """The trace: what hears the link at the old address says nothing. The call is given up, which
    gRPC tells as the cancellation of the task that waits for it: the link was never seen again.
    """
    one, two = await loopback.open(1), await loopback.open(2)
    async with SilentProxy(two.address) as proxy:
        proxy.silent = True
        one.links.set_peers({2: proxy.address})
        async with asyncio.timeout(DEADLINE_S):
            while not proxy.called:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        one.connect(two)
        await one.until_connected(2)
        one.links.send(2, Frame((heartbeat(1),)))
        await two.handler.until(lambda: two.handler.messages == [heartbeat(1)])


async def test_a_link_tries_the_peers_own_address_then_its_hint(
    loopback: Loopback,
) -> None:
    two = await loopback.open(2)
    one = await loopback.open(1, hints={2: two.address})
    nowhere = await loopback.open(9)
    await nowhere.server.stop()
    one.links.set_peers({2: nowhere.address})
    await one.until_connected(2)


async def test_a_link_tries_the_last_working_address_first(loopback: Loopback) -> None:
    knocks = 0

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal knocks
        knocks += 1
        writer.close()

    elsewhere = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with elsewhere:
        port = elsewhere.sockets[0].getsockname()[1]
        two = await loopback.open(2)
        await two.links.close()  # it does not call back, and so does not say where it is
        one = await loopback.open(1, hints={2: two.address})
        one.links.set_peers({2: f"127.0.0.1:{port}"})
        await one.until_connected(2)
        before = knocks
        assert before
        await two.server.stop()
        await two.listen()
        await one.handler.until(lambda: one.handler.linked == [2, 2])
        assert knocks == before


async def test_a_peer_that_gives_another_address_is_reached_there(loopback: Loopback) -> None:
    one, two = await loopback.open(1), await loopback.open(2)
    nowhere = await loopback.open(9)
    await nowhere.server.stop()
    one.links.set_peers({2: nowhere.address})
    two.connect(one)
    await one.until_connected(2)
    assert one.handler.callers[0].address == two.identity.address


async def test_closed_links_are_not_opened_again_by_callers(loopback: Loopback) -> None:
    one, two = await loopback.pair()
    await one.links.close()
    one.links.contacted(Caller(2, two.identity.address))
    one.connect(two)
    one.links.send(2, Frame((heartbeat(1),)))
    assert list(one.links._links) == []


async def test_links_to_unknown_peers_are_bounded(loopback: Loopback) -> None:
    one = await loopback.open(1)
    one.links.set_peers({})
    for stranger in range(10, 10 + 3 * UNKNOWN_PEERS_MAX):
        one.links.contacted(Caller(stranger, one.identity.address))
    assert len(list(one.links._links)) == UNKNOWN_PEERS_MAX


async def test_a_port_in_use_is_a_typed_error(loopback: Loopback) -> None:
    one, two = await loopback.open(1), await loopback.open(2)
    await two.server.stop()
    with pytest.raises(AddressInUse, match="peer_listen"):
        await two.server.start(one.address)


async def test_bytes_that_are_no_frame_end_the_stream_and_do_not_reach_the_handler(
    loopback: Loopback,
) -> None:
    one, two = await loopback.open(1), await loopback.open(2)
    async with grpc.aio.insecure_channel(two.address) as channel:
        stream = await stream_to(channel, one, 2)
        await stream.write(b"\xff\xff")
        assert (await ending(stream))[REASON_KEY] == "BREACH"
    assert two.handler.frames == []


async def test_a_breach_ends_the_stream_with_its_reason(
    loopback: Loopback,
) -> None:
    one, two = await loopback.pair()
    two.handler.breach = ProtocolBreach(1, "nodes 1 and 3 both lead one term")
    with capture_logs() as events:
        one.links.send(2, Frame((heartbeat(1),)))
        await one.handler.until(lambda: one.handler.broken == [2])
    (said,) = [each for each in events if each["event"] == "peer_refused"]
    assert (said["reason"], said["details"]) == ("BREACH", "nodes 1 and 3 both lead one term")
    await one.handler.until(lambda: one.handler.refusals != [])
    assert one.handler.refusals[0][1].reason is Refusal.BREACH


async def test_a_node_of_another_cluster_gets_no_link(loopback: Loopback) -> None:
    stranger, two = await loopback.open(1, cluster_id=8), await loopback.open(2)
    one = await loopback.open(1)
    stranger.connect(two)
    one.connect(two)
    await one.until_connected(2)
    assert stranger.links.connected == frozenset()


async def test_a_removed_node_that_connects_is_refused_as_removed(loopback: Loopback) -> None:
    one, two = await loopback.open(1), await loopback.open(2)
    two.handler.refusals_of[1] = REMOVED
    one.connect(two)
    await one.handler.until(lambda: one.handler.refusals != [])
    assert one.handler.refusals[0] == (2, REMOVED)
    assert one.handler.broken == one.handler.linked == []


async def test_a_node_removed_while_connected_is_refused_at_its_next_frame(
    loopback: Loopback,
) -> None:
    one, two = await loopback.pair()
    two.handler.refusals_of[1] = REMOVED
    one.links.send(2, Frame((heartbeat(1),)))
    await one.handler.until(lambda: one.handler.refusals != [])
    assert one.handler.refusals[0] == (2, REMOVED)
    assert two.handler.frames == []
    assert one.handler.broken == [2]


async def test_the_peer_port_serves_nothing_but_peers(loopback: Loopback) -> None:
    one = await loopback.open(1)
    async with grpc.aio.insecure_channel(one.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/raftkv.rpc.v1.KV/Range")(b"")
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_an_unknown_peer_that_connects_gets_a_link(loopback: Loopback) -> None:
    """A node that was just added knows no membership yet, and must answer its leader."""
    leader, newcomer = await loopback.open(1), await loopback.open(2)
    leader.connect(newcomer)
    await newcomer.until_connected(1)


async def test_a_caller_outside_the_membership_gets_replies(
    loopback: Loopback,
) -> None:
    """A node that catches up passes memberships to which its leader did not belong yet."""
    leader, behind = await loopback.open(1), await loopback.open(2)
    leader.connect(behind)
    await behind.until_connected(1)
    behind.connect()
    behind.links.send(1, Frame(messages=(Heartbeat(2, 1, 4, 0, 1),)))
    await behind.until_connected(1)
    behind.links.send(1, Frame(messages=(Heartbeat(2, 1, 4, 0, 2),)))
    await leader.handler.until(lambda: Heartbeat(2, 1, 4, 0, 2) in leader.handler.messages)


async def test_a_node_that_left_the_membership_gets_no_link(loopback: Loopback) -> None:
    one, _ = await loopback.pair()
    one.connect()
    one.links.send(2, Frame(messages=(heartbeat(1),)))
    assert not one.links.connected
    offer = InstallSnapshot(1, 2, 4, SnapshotPoint(1, 1))
    with pytest.raises(ConnectionFailed, match="no link"):
        await one.links.send_snapshot(2, offer, Checkpoint(Path(), 1, 1))

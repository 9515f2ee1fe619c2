"""Messages and handshakes from peers: of members, of strangers, and of nodes on a wrong disk."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from raftkv.errors import (
    InvalidRequest,
    OutOfService,
    Overloaded,
    RemovedFromCluster,
    ShuttingDown,
    StorageError,
    TooLarge,
)
from raftkv.node.driver import ACKNOWLEDGED_TICKS
from raftkv.node.node import Node
from raftkv.node.peer_handler import CONTACTS_MAX
from raftkv.node.proposal_queue import ProposalQueue
from raftkv.peer.bounds import TERM_JUMP_MAX
from raftkv.peer.codec import decode_frame, encode_frame
from raftkv.peer.handshake import Caller, HandshakeRefused, Refusal
from raftkv.peer.ports import Forward, ForwardRefused, Frame, Submission
from raftkv.raft.breach import ProtocolBreach
from raftkv.raft.entry import Entry, EntryKind, HardState, SnapshotPoint
from raftkv.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from raftkv.raft.ready import RaftRole
from raftkv.raft.running_hash import UNKNOWN
from raftkv.rpc.v1 import kv_pb2
from raftkv.storage.identity import DirectoryIdentity, MemoryIdentityStore, Stage
from raftkv.storage.memory import MemoryLogStore, MemoryStateStorage
from raftkv.storage.ports import Start
from raftkv.versions import SUPPORTED
from raftkv.wire.membership import encode_membership
from tests.node.wire import (
    CLUSTER,
    INCARNATION,
    Wire,
    address_of,
    cluster_of,
    config_of,
    members_of,
    soon,
    until,
)

STRANGER = 9


def put(key: bytes = b"k", value: bytes = b"v") -> bytes:
    command = kv_pb2.Command(put=kv_pb2.Put(key=key, value=value))
    return kv_pb2.CommandBatch(commands=[command]).SerializeToString()


def caller(node_id: int, **changed: object) -> Caller:
    given = Caller(
        node_id,
        address_of(node_id),
        INCARNATION,
        disk_id=node_id,
        start=Start(1, node_id),
        last_log_index=1 << 40,
    )
    return replace(given, **changed)


def say(node: Node, sender: int, *messages: Message) -> None:
    node.peer_handler.receive(sender, Frame(messages=messages))


def core(node: Node) -> tuple[object, ...]:
    raft = node.core
    log = raft.log
    return (
        (raft.current_term, raft.voted_for, raft.role, raft.leader_id, raft.commit_index),
        (log.last_index, log.hash(log.last_index), raft.membership),
    )


def other_than(wire: Wire, *nodes: Node) -> Node:
    return next(node for node in wire.nodes.values() if node not in nodes)


async def ended(node: Node) -> BaseException | None:
    """Why the node has stopped."""
    async with asyncio.timeout(60.0):
        return await node.stopped


def second_leader(node: Node, sender: int) -> Heartbeat:
    return Heartbeat(sender, node.node_id, node.term, 0, 1)


# ---- terms ------------------------------------------------------------------------------


async def test_a_term_that_jumps_too_far_is_refused_with_all_that_came_with_it(
    tmp_path: Path,
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        follower = other_than(wire, leader)
        before, id = core(follower), follower.node_id
        far = follower.term + TERM_JUMP_MAX + 1
        near = Heartbeat(leader.node_id, id, follower.term + 1, 0, 1)
        with pytest.raises(InvalidRequest, match="elections raise it one by one"):
            say(follower, STRANGER, near, HeartbeatReply(STRANGER, id, far, 0))
        assert core(follower) == before
        say(follower, STRANGER, HeartbeatReply(STRANGER, id, far - 1, 0))
        assert follower.term == far - 1
        await until(lambda: leader.term > far - 1 or other_than(wire, leader).core.leads)


async def test_a_snapshot_of_a_far_term_is_not_begun(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        follower = other_than(wire, leader)
        point = SnapshotPoint(1 << 20, 2, members_of(1, 2, 3), 5)
        far = follower.term + TERM_JUMP_MAX + 1
        with pytest.raises(InvalidRequest, match="elections raise it one by one"):
            follower.peer_handler.begin_snapshot(
                InstallSnapshot(STRANGER, follower.node_id, far, point)
            )


async def test_a_snapshot_that_is_only_announced_is_refused(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        follower = other_than(wire, leader)
        before = core(follower)
        point = SnapshotPoint(1 << 20, leader.term, members_of(1, 2, 3), 5)
        offer = InstallSnapshot(leader.node_id, follower.node_id, leader.term, point)
        with pytest.raises(InvalidRequest, match="a snapshot without its data"):
            say(follower, leader.node_id, offer)
        assert core(follower) == before


# ---- breaches ---------------------------------------------------------------------------


async def test_a_stranger_s_breach_ends_its_link_and_changes_nothing(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        await leader.peer_handler.admit(caller(STRANGER))
        forward = Forward(leader.term, 0, (Submission(77, 1, put(b"forged")),))
        for node in wire.nodes.values():
            before = core(node)
            breach = second_leader(node, STRANGER)
            with pytest.raises(ProtocolBreach, match="both lead one term"):
                node.peer_handler.receive(STRANGER, Frame(messages=[breach], forwards=[forward]))
            assert core(node) == before
        await leader.submit(put(), soon())
        assert leader.machine.revision == 2  # of the stranger's frame nothing was taken
        assert not any(node.stopped.done() for node in wire.nodes.values())


@pytest.mark.parametrize("leads", [False, True])
@pytest.mark.parametrize("member", [False, True])
async def test_a_breach_of_a_member_takes_the_node_out_of_service(
    tmp_path: Path, leads: bool, member: bool
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        follower = other_than(wire, leader)
        node = leader if leads else follower
        sender = other_than(wire, leader, follower).node_id if member else STRANGER
        if not member:
            assert await node.peer_handler.admit(caller(STRANGER, proven=True)) is None
        under_way = node.submit(put(), soon())
        say(node, sender, second_leader(node, sender))
        reason = await ended(node)
        assert isinstance(reason, OutOfService)
        for word in (f"nodes {leader.node_id} and {sender}", "Keep this directory", "export it"):
            assert word in reason.message
        assert f"`raftkv member replace {node.node_id} NEW`" in reason.message
        await until(lambda: bool(node.identity.out_of_service))
        stored = wire.identities[node.node_id].load()
        assert stored is not None
        assert stored.out_of_service == reason.message
        assert under_way.exception() is not None


async def test_a_node_out_of_service_grants_no_vote_and_acknowledges_nothing(
    tmp_path: Path,
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        node = other_than(wire, leader)
        id, other = node.node_id, other_than(wire, leader, node).node_id
        sent: list[tuple[int, Frame]] = []
        wire.links[id].send = lambda to, frame: sent.append((to, frame))  # type: ignore[method-assign]
        say(node, other, second_leader(node, other))
        term, last = node.term, node.core.log.last_index
        sent.clear()
        say(node, other, RequestVote(other, id, term + 1, 1 << 20, term))
        say(node, leader.node_id, Heartbeat(leader.node_id, id, term, 0, 2))
        say(node, leader.node_id, AppendEntries(leader.node_id, id, term, last, term, last))
        await asyncio.sleep(5.0)
        assert sent == []
        assert node.term == term
        with pytest.raises(ShuttingDown):
            await node.submit(put(), soon())
        with pytest.raises(ShuttingDown):
            await node.read_barrier(soon())
        refused = await node.peer_handler.admit(caller(other))
        assert refused is not None
        assert refused.reason is Refusal.NOT_READY


async def test_the_rest_of_a_frame_with_a_breach_is_ignored(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        follower = other_than(wire, leader)
        later = RequestVoteReply(STRANGER, follower.node_id, follower.term + 5, granted=False)
        before = core(follower)
        with pytest.raises(ProtocolBreach):
            say(follower, STRANGER, second_leader(follower, STRANGER), later)
        assert core(follower) == before


# ---- what others say of this node -------------------------------------------------------


@pytest.mark.parametrize("reason", [Refusal.OTHER_DISK, Refusal.OLDER_COPY, Refusal.CLONE])
async def test_a_members_refusal_takes_a_copied_disk_out_of_service(
    tmp_path: Path, reason: Refusal
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        node = other_than(wire, leader)
        node.peer_handler.refused(STRANGER, HandshakeRefused(reason, "a stranger's word"))
        assert not node.stopped.done()
        node.peer_handler.refused(
            leader.node_id, HandshakeRefused(reason, "this disk is another one")
        )
        stopped = await ended(node)
        assert isinstance(stopped, OutOfService)
        assert f"node {leader.node_id} does not admit this node: this disk" in stopped.message
        await until(lambda: bool(node.identity.out_of_service))


@pytest.mark.parametrize(
    "reason", sorted(set(Refusal) - {Refusal.OTHER_DISK, Refusal.OLDER_COPY, Refusal.CLONE})
)
async def test_a_refusal_for_another_reason_stops_no_node(tmp_path: Path, reason: Refusal) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        node = other_than(wire, leader)
        wire.links[node.node_id].connected = frozenset({1, 2, 3}) - {node.node_id, leader.node_id}
        node.peer_handler.refused(leader.node_id, HandshakeRefused(reason, "no"))
        await asyncio.sleep(10.0)
        assert not node.stopped.done()


async def test_one_members_removal_report_makes_a_node_passive_with_a_notice(
    tmp_path: Path,
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        node = other_than(wire, leader)
        id, other = node.node_id, other_than(wire, leader, node)
        wire.links[id].connected = frozenset({other.node_id})
        removed = HandshakeRefused(Refusal.REMOVED, f"node {id} has been removed")
        node.peer_handler.refused(STRANGER, removed)
        await asyncio.sleep(1.0)
        assert (node.status().notice, node.core.passive) == ("", False)
        node.peer_handler.refused(leader.node_id, removed)
        await asyncio.sleep(1.0)
        assert node.core.passive
        assert f"node {leader.node_id} says that this node was removed" in node.status().notice
        wire.cut_off = {leader.node_id}
        await until(lambda: other.core.leads)  # elected with this node's vote
        assert node.core.role is RaftRole.FOLLOWER
        node.peer_handler.link_up(leader.node_id)
        await asyncio.sleep(1.0)
        assert (node.status().notice, node.core.passive) == ("", False)


async def test_a_node_stops_when_all_that_answer_say_that_it_was_removed(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        node = other_than(wire, leader)
        for other in {1, 2, 3} - {node.node_id}:
            node.peer_handler.refused(other, HandshakeRefused(Refusal.REMOVED, "removed"))
        patience_s = 2 * config_of(leader_lease=False).raft.election_ticks_max * 0.05
        await asyncio.sleep(patience_s - 0.1)
        assert not node.stopped.done()
        reason = await ended(node)
        assert isinstance(reason, RemovedFromCluster)
        assert "all that answer" in reason.message
        assert "delete" not in reason.message
        assert not node.identity.out_of_service


async def test_reports_of_unknown_peers_do_not_count(tmp_path: Path) -> None:
    wire = Wire(tmp_path, Random(1), config_of(leader_lease=False))
    node = await wire.start(4)
    await node.peer_handler.admit(caller(1))
    node.peer_handler.refused(2, HandshakeRefused(Refusal.REMOVED, "removed"))
    node.peer_handler.refused(1, HandshakeRefused(Refusal.OTHER_DISK, "of another disk"))
    await asyncio.sleep(10.0)
    assert not node.stopped.done()
    node.driver.finish(None)
    await node.stop()


# ---- who is let in ----------------------------------------------------------------------


async def test_a_disk_that_takes_no_record_stops_the_node_and_admits_no_peer(
    tmp_path: Path,
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        node = other_than(wire, leader)
        await wire.logs[node.node_id].close()
        refused = await node.peer_handler.admit(caller(leader.node_id))
        assert refused is not None
        assert refused.reason is Refusal.NOT_READY
        assert isinstance(await ended(node), StorageError)


async def test_an_admitted_caller_is_refused_once_it_is_removed_or_overtaken(
    tmp_path: Path,
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        node = other_than(wire, leader)
        member = caller(leader.node_id)
        assert await node.peer_handler.admit(member) is None
        assert node.peer_handler.refusal_of(member) is None
        later = replace(member, start=Start(2, 22))
        assert await node.peer_handler.admit(later) is None
        refused = node.peer_handler.refusal_of(member)
        assert refused is not None
        assert refused.reason is Refusal.CLONE
        assert node.peer_handler.refusal_of(later) is None


async def test_a_leader_records_what_its_followers_have_acknowledged(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        follower = other_than(wire, leader)
        await leader.submit(put(), soon())
        index = leader.core.commit_index
        await asyncio.sleep((ACKNOWLEDGED_TICKS + 1) * 0.05)
        notes = wire.logs[leader.node_id].recover().starts.notes
        assert notes[follower.node_id].index >= index
        older = caller(follower.node_id, last_log_index=index - 1)
        refused = await leader.peer_handler.admit(older)
        assert refused is not None
        assert refused.reason is Refusal.OLDER_COPY
        await wire.restart(leader.node_id)
        restarted = wire.nodes[leader.node_id]
        refused = await restarted.peer_handler.admit(older)
        assert refused is not None
        assert refused.reason is Refusal.OLDER_COPY


async def test_a_call_is_compared_with_the_latest_acknowledgements(
    tmp_path: Path,
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        follower = other_than(wire, leader)
        await leader.submit(put(), soon())
        await until(lambda: follower.core.log.last_index == leader.peer_handler.last_log_index)
        index = leader.core.progress[follower.node_id].match_index
        older = caller(follower.node_id, last_log_index=index - 1)
        refused = await leader.peer_handler.admit(older)
        assert refused is not None
        assert refused.reason is Refusal.OLDER_COPY


# ---- forwards ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("commands", "error", "says"),
    [
        (b"\xff\xff\xff", InvalidRequest, "not a CommandBatch"),
        (put(b""), InvalidRequest, "put.key is empty"),
        (put(b"k", bytes(3_000_000)), TooLarge, "the limit is"),
    ],
)
async def test_what_a_follower_forwards_is_checked_and_its_caller_gets_the_error(
    tmp_path: Path, commands: bytes, error: type[InvalidRequest], says: str
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        follower = other_than(wire, leader)
        good = follower.submit(put(), soon())
        with pytest.raises(error, match=says):
            await follower.submit(commands, soon())
        await good
        assert leader.machine.revision == 2
        await follower.submit(put(b"after"), soon())
        with pytest.raises(error, match=says):
            await follower.submit(commands, soon())


async def test_a_sender_over_its_bound_is_refused_and_its_caller_may_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        follower = other_than(wire, leader)
        leader.driver._proposer._queue = ProposalQueue(bytes_per_sender_max=1)
        both = [follower.submit(put(key), soon()) for key in (b"a", b"b")]
        await both[0]
        with pytest.raises(Overloaded) as refused:
            await both[1]
        assert refused.value.retry_after_s > 0
        assert leader.machine.revision == 2


@pytest.mark.parametrize("from_leader", [False, True])
@pytest.mark.parametrize("later", [0, 1])
async def test_only_the_leader_of_the_term_refuses_a_forward(
    tmp_path: Path, from_leader: bool, later: int
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        follower = other_than(wire, leader)
        wire.cut_off = {leader.node_id}
        under_way = follower.submit(put(), soon())
        await asyncio.sleep(0.01)
        number = follower.driver._proposer.pending.settled + 1
        refusal = ForwardRefused(follower.term + later, number, TooLarge("no"))
        sender = leader.node_id if from_leader else other_than(wire, leader, follower).node_id
        follower.peer_handler.receive(sender, Frame(forwards_refused=(refusal,)))
        assert under_way.done() is (from_leader and not later)


@pytest.mark.parametrize(("change", "taken"), [(-1, False), (0, True), (1, False)])
async def test_a_forward_is_taken_in_the_leader_s_term_only(
    tmp_path: Path, change: int, taken: bool
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        follower = other_than(wire, leader)
        forward = Forward(leader.term + change, 0, (Submission(77, 1, put(b"other")),))
        leader.peer_handler.receive(follower.node_id, Frame(forwards=[forward]))
        await leader.submit(put(), soon())
        assert leader.machine.revision == (3 if taken else 2)


async def test_a_leader_ignores_a_forward_of_a_node_that_is_no_member(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (_, leader):
        forward = Forward(leader.term, 0, (Submission(77, 1, put(b"forged")),))
        leader.peer_handler.receive(STRANGER, Frame(forwards=[forward]))
        await leader.submit(put(), soon())
        assert leader.machine.revision == 2
        assert STRANGER not in leader.driver._proposer._queue._origins


async def test_contacts_of_strangers_are_bounded(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        for stranger in range(10, 10 + 3 * CONTACTS_MAX):
            say(leader, stranger, HeartbeatReply(stranger, leader.node_id, leader.term, 0))
            assert len(leader.peer_handler.last_contact) <= CONTACTS_MAX
        follower = other_than(wire, leader).node_id
        assert follower in leader.peer_handler.last_contact


# ---- a cluster that raftkv 0.1.0 has begun -----------------------------------------------


async def started_as_of_0_1_0(directory: Path) -> Wire:
    """Three nodes whose logs have no hash and whose members have no disks; they know each other."""
    wire = Wire(directory, Random(1), config_of(leader_lease=False))
    first = replace(members_of(1, 2, 3), disk_ids={})
    for node_id in (1, 2, 3):
        identity = DirectoryIdentity(
            CLUSTER, node_id, disk_id=node_id, incarnation=INCARNATION, stage=Stage.MEMBER
        )
        wire.identities[node_id] = MemoryIdentityStore(identity)
        wire.logs[node_id] = MemoryLogStore()
        await wire.logs[node_id].append(
            HardState(1, commit_index=1),
            [Entry(1, 1, EntryKind.MEMBERSHIP, encode_membership(first))],
        )
        wire.states[node_id] = MemoryStateStorage(directory / str(node_id))
        await wire._run(node_id)
    return wire


async def test_the_version_is_raised_once_all_can_and_then_logs_have_a_hash(tmp_path: Path) -> None:
    wire = await started_as_of_0_1_0(tmp_path)
    nodes = wire.nodes.values()
    await until(lambda: all(node.ready for node in nodes))
    (leader,) = (node for node in nodes if node.core.leads)
    assert {node.status().cluster_version for node in nodes} == {0}
    await leader.submit(put(), soon())
    raft = leader.core
    assert raft.log.hash(raft.log.last_index) == UNKNOWN
    others = sorted({1, 2, 3} - {leader.node_id})
    await leader.peer_handler.admit(caller(others[0]))
    await asyncio.sleep(2.0)
    assert leader.status().cluster_version == 0
    await leader.peer_handler.admit(caller(others[1]))
    await until(lambda: {node.status().cluster_version for node in nodes} == {SUPPORTED.maximum})
    await until(lambda: leader.membership.disk_ids == {1: 1, 2: 2, 3: 3})
    await leader.submit(put(), soon())
    await until(lambda: len({node.core.last_applied for node in nodes}) == 1)
    hashes = {node.machine.applied_hash for node in nodes}
    assert len(hashes) == 1
    assert hashes != {UNKNOWN}
    for node_id in (1, 2, 3):
        await wire.restart(node_id)
    await until(
        lambda: (
            {node.status().cluster_version for node in wire.nodes.values()} == {SUPPORTED.maximum}
        )
    )
    for node_id in (1, 2, 3):
        await wire.kill(node_id)


async def test_a_member_is_linked_at_its_reported_new_address(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        follower = other_than(wire, leader)
        moved = replace(address_of(follower.node_id), peer="elsewhere:1")
        await leader.peer_handler.admit(caller(follower.node_id, address=moved))
        other = other_than(wire, leader, follower)
        await until(lambda: other.membership.addresses[follower.node_id] == moved)
        assert wire.links[other.node_id].addresses[follower.node_id] == "elsewhere:1"


# ---- anything at all ----------------------------------------------------------------------


class Babbler:
    """Says whatever can be said within bounds, near what the node holds."""

    def __init__(self, seed: int, node: Node) -> None:
        self.rng = Random(seed)
        self.node = node
        self.sender = self.rng.choice([STRANGER, STRANGER, 1, 2, 3])
        if self.sender == node.node_id:
            self.sender = STRANGER
        self.kinds = self.rng.sample(range(9), 3)

    def frame(self) -> Frame | None:
        """None: it was out of bounds."""
        count = self.rng.randint(1, 3)
        frame = Frame(
            messages=[self.message() for _ in range(count)],
            forwards=[self.forward()] if self.rng.random() < 0.3 else [],
            forwards_refused=[self.refusal()] if self.rng.random() < 0.2 else [],
        )
        try:
            return decode_frame(encode_frame(frame), self.sender, self.node.node_id)
        except InvalidRequest:
            return None

    def message(self) -> Message:
        rng, me, id = self.rng, self.sender, self.node.node_id
        another = rng.random() < 0.1  # or a leader would soon be none
        term = max(0, self.node.term + (rng.choice([-1, 1, 2, TERM_JUMP_MAX]) if another else 0))
        index, last_term = self.point()
        kind = rng.choice(self.kinds)
        if kind == 8:
            return AppendEntries(
                *(me, id, term, index, last_term, self.index()),
                self.entries(index, last_term, term),
                self.hash(index),
            )
        return [
            Heartbeat(me, id, term, self.index(), rng.choice([0, 1, 2, 99])),
            HeartbeatReply(me, id, term, rng.choice([0, 1, 2, 99])),
            RequestVote(
                *(me, id, term, index, last_term),
                *(rng.random() < 0.5, rng.random() < 0.3, self.hash(index)),
            ),
            RequestVoteReply(me, id, term, rng.random() < 0.7, rng.random() < 0.5),
            AppendEntriesReply(
                *(me, id, term, rng.random() < 0.6),
                *(self.index(), self.index(), rng.randint(0, term), self.hash(index)),
            ),
            ReadIndex(me, id, term, rng.getrandbits(64)),
            ReadIndexReply(me, id, term, rng.getrandbits(64), self.index()),
            TimeoutNow(me, id, term),
        ][kind]

    def point(self) -> tuple[int, int]:
        index = self.index()
        known = self.node.core.log.term(index) or 1
        return (index, max(1, known + self.rng.choice([0, 0, 0, -1, 1]))) if index else (0, 0)

    def index(self) -> int:
        raft = self.node.core
        marks = [0, 1, raft.commit_index, raft.log.last_index, raft.log.compacted_index, 1 << 60]
        return max(0, self.rng.choice(marks) + self.rng.choice([-1, 0, 0, 1]))

    def hash(self, index: int) -> int:
        known = self.node.core.log.hash(index) or 0
        return self.rng.choice([known, known, known, UNKNOWN, 0xBAD])

    def entries(self, index: int, last_term: int, term: int) -> tuple[Entry, ...]:
        entries = []
        for offset in range(self.rng.randint(0, 3)):
            last_term = self.rng.randint(min(max(last_term, 1), term), term)
            kind = self.rng.choice([EntryKind.NOOP, EntryKind.NOOP, EntryKind.MEMBERSHIP])
            payload = (
                encode_membership(self.rng.choice([members_of(1, 2, 3), members_of(1, 2, 3, 9)]))
                if kind is EntryKind.MEMBERSHIP
                else b""
            )
            entries.append(Entry(last_term, index + 1 + offset, kind, payload))
        return tuple(entries)

    def forward(self) -> Forward:
        commands = self.rng.choice([put(), put(b""), b"\xff", b""])
        return Forward(self.node.term, self.rng.randint(0, 3), (Submission(5, 1, commands),))

    def refusal(self) -> ForwardRefused:
        return ForwardRefused(self.node.term, self.rng.randint(1, 3), Overloaded("full"))


@pytest.mark.parametrize("seed", range(60))
async def test_every_bounded_frame_of_a_stranger_is_taken_or_refused(
    tmp_path: Path, seed: int
) -> None:
    """Nothing but a link ends, or the node's service, and that with its reason."""
    async with cluster_of(tmp_path, seed, leader_lease=False) as (wire, leader):
        rng = Random(seed)
        node = leader if seed % 3 == 0 else other_than(wire, leader)
        node.submit(put(), soon()).add_done_callback(lambda done: done.exception())
        babbler = Babbler(seed, node)
        for _ in range(120):
            frame = babbler.frame()
            if frame is not None:
                with suppress(InvalidRequest, ProtocolBreach):
                    node.peer_handler.receive(babbler.sender, frame)
            if rng.random() < 0.3:
                await asyncio.sleep(rng.choice([0.0, 0.01, 0.3]))
            if node.stopped.done():
                break
        if node.stopped.done():
            assert isinstance(node.stopped.result(), OutOfService | RemovedFromCluster)
            assert babbler.sender != STRANGER or isinstance(node.stopped.result(), OutOfService)

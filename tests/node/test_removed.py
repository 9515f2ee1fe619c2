"""A node that was removed from its cluster finds out and stops, whatever it was doing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import async_solipsism
import pytest

from raftkv.errors import RemovedFromCluster
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.node.config import NodeConfig, NodeStores
from raftkv.node.node import Node
from raftkv.peer.handshake import Caller, HandshakeRefused, Refusal
from raftkv.peer.ports import Frame, PeerHandler, PeerLinks
from raftkv.raft.entry import Address, Entry, EntryKind, HardState, Membership, encode_version
from raftkv.raft.messages import InstallSnapshot
from raftkv.raft.ready import RaftConfig
from raftkv.storage.identity import DirectoryIdentity, MemoryIdentityStore, Stage
from raftkv.storage.memory import MemoryLogStore, MemoryStateStorage
from raftkv.storage.ports import Checkpoint, Start
from raftkv.versions import SUPPORTED
from raftkv.wire.membership import encode_membership

CONFIG = NodeConfig(
    raft=RaftConfig(),
    tick_s=0.05,
    limits=Limits(),
    submissions_in_flight_max=16,
    uncommitted_bytes_max=1 << 20,
    log_retained_bytes=1 << 20,
    log_compaction_bytes=1 << 20,
)


ADDRESSES = {each: Address(f"n{each}:1", f"n{each}:2") for each in (1, 2, 3)}


_BEFORE = Membership(voters=frozenset({1, 2, 3}), addresses=ADDRESSES)
REMOVAL = (_BEFORE, replace(_BEFORE, voters=frozenset({2, 3}), removed=frozenset({1})))


class NoLinks:
    """Links to no peer: no other node can be reached."""

    connected: frozenset[int] = frozenset()

    def start(self, handler: PeerHandler, start: Start) -> None: ...
    def set_peers(self, addresses: Mapping[int, str]) -> None: ...
    def send(self, to: int, frame: Frame) -> None: ...
    async def send_snapshot(
        self, to: int, message: InstallSnapshot, checkpoint: Checkpoint
    ) -> None: ...
    async def close(self) -> None: ...


class RefusingLinks(NoLinks):
    """Links to peers that have removed this node, and refuse it when a frame of it arrives."""

    def start(self, handler: PeerHandler, start: Start) -> None:
        self._handler = handler

    def send(self, to: int, frame: Frame) -> None:
        removed = HandshakeRefused(Refusal.REMOVED, "it was removed")
        asyncio.get_running_loop().call_soon(self._handler.refused, to, removed)


async def reason_to_stop(
    directory: Path,
    memberships: Sequence[Membership],
    links: PeerLinks,
    *,
    later: Sequence[Entry] = (),
    applied: int | None = None,
    callers: Sequence[int] = (),
) -> BaseException | None:
    """Why node 1 stops. Its log has these memberships and `later`, is committed to its end, and
    applied up to `applied` (None: to its end). These nodes have called it once.
    """
    entries = [
        Entry(1, index, EntryKind.MEMBERSHIP, encode_membership(each))
        for index, each in enumerate(memberships, start=1)
    ] + list(later)
    log, state = MemoryLogStore(), MemoryStateStorage(directory)
    await log.append(HardState(current_term=1, commit_index=len(entries)), entries)
    StateMachine(state.store, Limits()).apply(entries[:applied])
    identities = MemoryIdentityStore(DirectoryIdentity(7, 1, 1, incarnation=5, stage=Stage.MEMBER))
    identity = identities.load()
    assert identity is not None
    stores = NodeStores(identities, log, state)
    node = Node(identity, ADDRESSES[1], CONFIG, stores, links, Random(1))
    await node.start()
    for caller in callers:
        refused = await node.peer_handler.admit(Caller(caller, ADDRESSES[caller]))
        assert refused is None
    async with asyncio.timeout(10):
        reason = await node.stopped
    await node.stop()
    return reason


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = async_solipsism.EventLoop()
    yield loop
    loop.close()


def test_a_node_that_crashed_after_it_applied_its_removal_still_stops(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    # jepsen-lite seed 4038: no node contacts a removed node, which is no voter and starts no
    # election. So a node that restarts with its removal applied must read it from its own state.
    reason = loop.run_until_complete(reason_to_stop(tmp_path, REMOVAL, NoLinks()))
    assert isinstance(reason, RemovedFromCluster)


def test_a_removed_node_stops_as_removed_although_the_cluster_was_upgraded_since(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    upgrade = Entry(1, 3, EntryKind.VERSION, encode_version(SUPPORTED.maximum + 1))
    stopping = reason_to_stop(tmp_path, REMOVAL, NoLinks(), later=[upgrade], applied=1)
    assert isinstance(loop.run_until_complete(stopping), RemovedFromCluster)


def test_a_learner_whose_leader_was_lost_before_it_reported_the_removal_stops(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    # It stands for no election, and answers no leader: it must call the voters of itself.
    learner = Membership(voters=frozenset({2, 3}), learners=frozenset({1}), addresses=ADDRESSES)
    reason = loop.run_until_complete(reason_to_stop(tmp_path, (learner,), RefusingLinks()))
    assert isinstance(reason, RemovedFromCluster)


def test_a_learner_that_was_removed_before_its_first_entry_stops(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    # jepsen-lite seed 157: it knows no members, only who called it.
    stopping = reason_to_stop(tmp_path, (), RefusingLinks(), callers=[2])
    assert isinstance(loop.run_until_complete(stopping), RemovedFromCluster)

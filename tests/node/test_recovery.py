"""What a node finds on its disks becomes a core and a state that belong together, or is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from raftkv.errors import DamagedData
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.kv.meta import META_0_KEY, META_KEY
from raftkv.kv.store import Family
from raftkv.node.config import NodeStores
from raftkv.node.recovery import Recovered, recover
from raftkv.raft.entry import Entry, EntryKind, HardState, encode_version
from raftkv.raft.running_hash import UNKNOWN, next_hash
from raftkv.storage.identity import DirectoryIdentity, MemoryIdentityStore, Stage, decode_identity
from raftkv.storage.memory import MemoryLogStore, MemoryStateStorage
from raftkv.storage.ports import MemberNote, Start, Starts
from tests.node.wire import INCARNATION, config_of, identity_of, members_of

FOUNDER = identity_of(1, members_of(1, 2, 3))
JOINED = identity_of(4, None)
MEMBER = replace(FOUNDER, stage=Stage.MEMBER, membership=b"")


class Disks:
    """The stores of one node, of which a crash leaves what was synced."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = MemoryLogStore()
        self.state = MemoryStateStorage(directory)

    async def recover(self, identity: DirectoryIdentity, seed: int = 1) -> Recovered:
        stores = NodeStores(MemoryIdentityStore(identity), self.log, self.state)
        return await recover(identity, config_of(leader_lease=False), stores, Random(seed))

    def crash(self) -> None:
        self.log, self.state = self.log.crash(), self.state.crash()

    async def apply(self, entries: list[Entry], log_hash: int) -> None:
        """Durably."""
        StateMachine(self.state.store, Limits()).apply(entries, log_hash)
        await self.state.sync()


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    return Disks(tmp_path)


def commands(first: int, last: int, term: int = 1) -> list[Entry]:
    return [Entry(term, index, EntryKind.NOOP) for index in range(first, last + 1)]


def hash_of(entries: list[Entry], founded: int = INCARNATION) -> int:
    for entry in entries:
        founded = next_hash(founded, entry)
    return founded


# ---- the beginning of a log ---------------------------------------------------------------


async def test_a_founder_s_log_begins_with_what_all_founders_have_stored(disks: Disks) -> None:
    raft = (await disks.recover(FOUNDER)).raft
    first = [
        Entry(1, 1, EntryKind.MEMBERSHIP, FOUNDER.membership),
        Entry(1, 2, EntryKind.VERSION, encode_version(1)),
    ]
    assert list(raft.log.entries(1, 9, 1 << 20)) == first
    assert (raft.current_term, raft.voted_for, raft.commit_index) == (1, 0, 2)
    assert raft.membership == members_of(1, 2, 3)
    assert (raft.log.hash(0), raft.log.hash(2)) == (INCARNATION, hash_of(first))


async def test_all_founders_logs_are_the_same(tmp_path: Path) -> None:
    hashes = set()
    for node_id in (1, 2, 3):
        disks = Disks(tmp_path / str(node_id))
        identity = identity_of(node_id, members_of(1, 2, 3))
        hashes.add((await disks.recover(identity, seed=node_id)).raft.log.hash(2))
    assert len(hashes) == 1


async def test_a_crash_while_the_log_begins_changes_nothing(disks: Disks) -> None:
    await disks.log.reset(0, 0, INCARNATION)
    disks.crash()
    begun = (await disks.recover(FOUNDER)).raft.log
    disks.crash()
    again = (await disks.recover(FOUNDER)).raft.log
    assert begun.last_index == again.last_index == 2
    assert begun.hash(2) == again.hash(2)


async def test_a_node_that_has_joined_begins_with_the_hash_of_its_cluster(disks: Disks) -> None:
    raft = (await disks.recover(JOINED)).raft
    assert (raft.current_term, raft.log.last_index) == (0, 0)
    assert raft.log.hash(0) == INCARNATION
    disks.crash()
    assert (await disks.recover(replace(JOINED, stage=Stage.MEMBER))).raft.log.hash(0) == (
        INCARNATION
    )


async def test_a_node_that_joins_a_cluster_of_0_1_0_begins_without_a_hash(disks: Disks) -> None:
    """The logs there have none before their version was raised: another beginning would make
    another hash of the same entries, and its node would leave service for it.
    """
    member = decode_identity(b'{"format_version": 1, "cluster_id": 7, "node_id": 1}')
    assert isinstance(member, DirectoryIdentity)
    joined = replace(JOINED, cluster_id=7, incarnation=member.incarnation)
    log = (await disks.recover(joined)).raft.log
    assert log.hash(0) == UNKNOWN
    raised = Entry(1, 1, EntryKind.VERSION, encode_version(1))
    log.append([raised])
    assert log.hash(1) == next_hash(UNKNOWN, raised)


async def test_a_member_s_empty_log_is_a_log_that_was_lost(disks: Disks) -> None:
    with pytest.raises(DamagedData, match=r"log of node 1 is empty.*member replace 1 NEW"):
        await disks.recover(MEMBER)


async def test_a_member_of_0_1_0_goes_on_without_a_hash(disks: Disks) -> None:
    entries = commands(1, 3)
    await disks.log.append(HardState(1, 1, 3), entries)
    raft = (await disks.recover(MEMBER)).raft
    assert (raft.log.last_index, raft.log.hash(3)) == (3, UNKNOWN)


# ---- starts -------------------------------------------------------------------------------


async def test_each_start_is_one_more_and_has_an_id_of_its_own(disks: Disks) -> None:
    starts = []
    for seed in (1, 2, 3):
        starts.append((await disks.recover(FOUNDER, seed)).starts.own)
        disks.crash()
    assert [start.number for start in starts] == [1, 2, 3]
    assert len({start.id for start in starts}) == 3
    assert disks.log.recover().starts.own == starts[-1]


async def test_the_records_of_peers_outlive_a_start(disks: Disks) -> None:
    await disks.recover(FOUNDER)
    notes = {2: MemberNote(Start(5, 99), 1234)}
    await disks.log.write_starts(Starts(Start(1, 1), notes))
    disks.crash()
    assert (await disks.recover(MEMBER)).starts.notes == notes


# ---- log and state ------------------------------------------------------------------------


async def running(disks: Disks, last: int) -> list[Entry]:
    """A founder's disks once it has applied entries up to `last`."""
    raft = (await disks.recover(FOUNDER)).raft
    entries = [*raft.log.entries(1, 3, 1 << 20), *commands(3, last)]
    await disks.log.append(HardState(1, 1, last), entries[2:])
    await disks.apply(entries, hash_of(entries))
    return entries


async def test_log_and_state_of_one_history_fit(disks: Disks) -> None:
    entries = await running(disks, 5)
    disks.crash()
    recovered = await disks.recover(MEMBER)
    assert recovered.raft.last_applied == recovered.machine.applied_index == 5
    assert recovered.raft.log.hash(5) == recovered.machine.applied_hash == hash_of(entries)


async def test_log_and_state_of_two_histories_are_refused_with_both_hashes(disks: Disks) -> None:
    entries = await running(disks, 5)
    other = [*commands(6, 6), *commands(7, 8)]
    await disks.apply(other, 0xBAD)
    await disks.log.append(HardState(1, 1, 8), commands(6, 8))
    with pytest.raises(DamagedData, match="two histories") as raised:
        await disks.recover(MEMBER)
    assert f"{hash_of(entries + other):016x}" in raised.value.message
    assert f"{0xBAD:016x}" in raised.value.message
    assert "Keep this directory" in raised.value.message


async def test_a_state_without_a_hash_contradicts_nothing(disks: Disks) -> None:
    await running(disks, 5)
    row = disks.state.store.get(Family.META, META_KEY)
    assert row is not None
    disks.state.store.write({Family.META: {META_KEY: None, META_0_KEY: row[:48]}})
    await disks.state.sync()
    recovered = await disks.recover(MEMBER)
    assert recovered.machine.applied_hash == UNKNOWN
    assert recovered.raft.last_applied == 5


async def test_a_snapshot_s_installation_is_finished_with_its_hash(disks: Disks) -> None:
    """The crash was between the state, which is the snapshot's, and the log."""
    await running(disks, 5)
    await disks.apply(commands(6, 9, term=3), 0xA5)
    disks.crash()
    raft = (await disks.recover(MEMBER)).raft
    assert (raft.log.compacted_index, raft.log.compacted_term, raft.log.hash(9)) == (9, 3, 0xA5)
    assert (raft.log.last_index, raft.current_term) == (9, 3)
    disks.crash()
    again = (await disks.recover(MEMBER)).raft
    assert (again.log.last_index, again.log.hash(9)) == (9, 0xA5)


async def test_a_compacted_log_goes_on_from_its_hash(disks: Disks) -> None:
    entries = await running(disks, 5)
    await disks.log.compact(4, 1, hash_of(entries[:4]))
    disks.crash()
    log = (await disks.recover(MEMBER)).raft.log
    assert log.compacted_index == 4
    assert log.hash(5) == hash_of(entries)


async def test_a_state_that_ends_before_the_log_begins_has_lost_a_part(disks: Disks) -> None:
    entries = await running(disks, 5)
    await disks.log.compact(5, 1, hash_of(entries))
    await disks.log.append(None, commands(6, 7))
    disks.log = disks.log.crash()
    disks.state = MemoryStateStorage(disks.directory / "other")
    with pytest.raises(DamagedData, match="part of the state is lost"):
        await disks.recover(MEMBER)

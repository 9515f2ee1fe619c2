"""The start of a node whose disk begins a new cluster, and a crash at each step of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from raftkv.errors import ConfigurationError
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.kv.meta import read_meta
from raftkv.kv.new_cluster import NUMBERS_SKIPPED
from raftkv.kv.store import Family
from raftkv.node.config import NodeStores
from raftkv.node.recovery import Recovered, recover
from raftkv.raft.entry import Entry, EntryKind, HardState, encode_version
from raftkv.rpc.v1 import kv_pb2, log_pb2
from raftkv.storage.identity import DirectoryIdentity, MemoryIdentityStore, Stage
from raftkv.storage.memory import MemoryLogStore, MemoryStateStorage
from raftkv.versions import VersionRange
from raftkv.wire.membership import encode_membership
from tests.node.wire import INCARNATION, address_of, config_of, identity_of, members_of

FOUNDER = identity_of(3, members_of(1, 2, 3))
ALONE = replace(members_of(3), removed=frozenset({1, 2}))
REFOUNDING = replace(
    FOUNDER,
    stage=Stage.REFOUNDING,
    incarnation=INCARNATION + 1,
    membership=encode_membership(ALONE),
)
TIME_MS = 5_000


class PowerCut(Exception):
    """The machine stops before the write in progress is synced."""


class Power:
    """Fails at the sync number `last`, from 0 on, in whichever store that is."""

    def __init__(self) -> None:
        self.syncs = 0
        self.last = 1 << 30

    async def __call__(self) -> None:
        self.syncs += 1
        if self.syncs > self.last:
            raise PowerCut


class Disks:
    def __init__(self, directory: Path) -> None:
        self.power = Power()
        self.log = MemoryLogStore(self.power)
        self.state = MemoryStateStorage(directory, self.power)

    async def recover(
        self, identity: DirectoryIdentity, versions: VersionRange | None = None
    ) -> Recovered:
        stores = NodeStores(MemoryIdentityStore(identity), self.log, self.state)
        config = config_of(leader_lease=False)
        if versions is not None:
            config = replace(config, versions=versions)
        return await recover(identity, config, stores, Random(1))

    def cut(self, surviving: int) -> None:
        """A power cut, which the first `surviving` unsynced writes of each store survived."""
        self.log, self.state = self.log.crash(surviving), self.state.crash(surviving)
        self.power.syncs, self.power.last = 0, 1 << 30


def put(index: int, key: str, term: int = 2) -> Entry:
    command = kv_pb2.Command(put=kv_pb2.Put(key=key.encode(), value=b"paid"))
    batch = kv_pb2.CommandBatch(commands=[command]).SerializeToString()
    submission = log_pb2.Submission(origin=1, number=index, commands=batch)
    stamped = log_pb2.StampedBatch(time_ms=TIME_MS, submissions=[submission])
    return Entry(term, index, EntryKind.COMMANDS, stamped.SerializeToString())


async def lost_majority(directory: Path) -> Disks:
    """Node 3 has applied up to index 4, knows 5 to be committed, and has 6 and 7 in its log. The
    last one is a membership that would have taken node 3 out.
    """
    disks = Disks(directory)
    begun = (await disks.recover(FOUNDER)).raft.log
    late = encode_membership(members_of(1, 2))
    entries = [
        *begun.entries(1, 3, 1 << 20),
        *(put(index, f"k{index}") for index in range(3, 7)),
        Entry(3, 7, EntryKind.MEMBERSHIP, late),
    ]
    await disks.log.append(HardState(4, 2, 5), entries[2:])
    machine = StateMachine(disks.state.store, Limits())
    machine.apply(entries[:4], (await disks.recover(FOUNDER)).raft.log.hash(4) or 0)
    await disks.state.sync()
    return disks


def require_new_cluster(recovered: Recovered) -> None:
    raft, machine = recovered.raft, recovered.machine
    assert machine.membership == raft.membership == ALONE
    # All of the log is applied, and one entry more, in a term that no node was ever in.
    assert (machine.applied_index, machine.applied_term) == (8, 5)
    assert (raft.log.compacted_index, raft.log.last_index, raft.log.last_term) == (8, 8, 5)
    assert raft.log.hash(8) == machine.applied_hash
    assert raft.current_term == 5
    assert [machine.view.get(Family.CURRENT, f"k{index}".encode()) for index in range(3, 7)].count(
        None
    ) == 0
    # Four puts after revision 1, then the gap, once.
    assert machine.revision == machine.compacted_revision == 5 + NUMBERS_SKIPPED
    assert read_meta(machine.view).leases_granted == NUMBERS_SKIPPED
    assert machine.time_ms == TIME_MS


async def test_the_whole_log_is_applied_and_the_new_cluster_begins_after_it(
    tmp_path: Path,
) -> None:
    disks = await lost_majority(tmp_path)
    require_new_cluster(await disks.recover(REFOUNDING))
    # A crash before the identity says that it is done: nothing is done a second time.
    disks.cut(0)
    require_new_cluster(await disks.recover(REFOUNDING))


async def test_after_a_power_cut_at_any_sync_the_next_start_goes_on(tmp_path: Path) -> None:
    disks = await lost_majority(tmp_path / "steps")
    disks.power.syncs = 0
    await disks.recover(REFOUNDING)
    count = disks.power.syncs
    assert count >= 4, "state, term, log, start"
    for last in range(count):
        for surviving in range(4):
            disks = await lost_majority(tmp_path / f"{last}-{surviving}")
            disks.power.syncs, disks.power.last = 0, last
            with pytest.raises(PowerCut):
                await disks.recover(REFOUNDING)
            disks.cut(surviving)
            require_new_cluster(await disks.recover(REFOUNDING))


async def test_the_new_cluster_needs_no_other_node(tmp_path: Path) -> None:
    disks = await lost_majority(tmp_path)
    raft = (await disks.recover(REFOUNDING)).raft
    assert raft.membership.voters == {3}
    assert raft.membership.addresses == {3: address_of(3)}
    disks.cut(0)
    member = replace(REFOUNDING, stage=Stage.MEMBER, membership=b"")
    assert (await disks.recover(member)).raft.membership == ALONE


async def test_a_program_that_can_t_take_part_in_the_cluster_applies_nothing(
    tmp_path: Path,
) -> None:
    disks = await lost_majority(tmp_path)
    raised = Entry(3, 8, EntryKind.VERSION, encode_version(2))
    await disks.log.append(None, [raised])
    before = disks.state.store.get(Family.META, b"meta")
    with pytest.raises(ConfigurationError, match="cluster is at version 1"):
        await disks.recover(REFOUNDING, VersionRange(2, 3))
    assert disks.state.store.get(Family.META, b"meta") == before

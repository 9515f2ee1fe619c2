"""Automatic compaction of the history: what is recorded, and three nodes on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.kv.store import Family
from raftkv.node.history_record import SAMPLES_MAX, HistoryPins, HistoryRecord
from raftkv.node.node import Node
from raftkv.raft.entry import Entry, EntryKind
from raftkv.rpc.v1 import kv_pb2, log_pb2
from raftkv.storage.memory_state import MemoryStateStore
from raftkv.storage.state_store import RocksStateStore
from raftkv.versions import AUTHENTICATED
from tests.node.test_signing_keys import followers
from tests.node.wire import Wire, cluster_of, config_of, leaders, raise_version, soon, until

VALUE_BYTES = 1_000
PIN_S = 20.0


class Past:
    """A state machine whose key is overwritten again and again."""

    def __init__(self) -> None:
        self.store = MemoryStateStore()
        self.machine = StateMachine(self.store, Limits())

    def put(self, time_ms: int, value_bytes: int = VALUE_BYTES) -> None:
        put = kv_pb2.Command(put=kv_pb2.Put(key=b"k", value=bytes(value_bytes)))
        batch = log_pb2.StampedBatch(time_ms=time_ms)
        batch.submissions.add(commands=kv_pb2.CommandBatch(commands=[put]).SerializeToString())
        index = self.machine.applied_index + 1
        self.machine.apply([Entry(1, index, EntryKind.COMMANDS, batch.SerializeToString())])

    @property
    def stored_bytes(self) -> int:
        return self.store.size_bytes(Family.HISTORY) + self.store.size_bytes(Family.CHANGES)


def test_the_added_bytes_are_those_of_the_rows() -> None:
    past = Past()
    for number in range(20):
        past.put(number, 100 * number)
    assert past.machine.history_bytes_added == past.stored_bytes


def test_a_revision_that_was_current_is_found_by_cluster_time() -> None:
    past, record = Past(), HistoryRecord(age_ms=6_400, bytes_max=0)
    record.begin(past.machine, past.store)
    for number in range(1, 101):
        past.put(100 * number)
        record.observe(100 * number, past.machine)
    assert record.revision_at(-1) == 0
    assert record.revision_at(5_000) == 51
    assert record.revision_at(5_099) == 51


def test_a_revision_is_found_that_keeps_as_many_bytes() -> None:
    past, record = Past(), HistoryRecord(age_ms=0, bytes_max=64_000)
    record.begin(past.machine, past.store)
    for number in range(1, 101):
        past.put(number, 10 * number)
        record.observe(number, past.machine)
    revision = record.revision_keeping(20_000, past.machine)
    bytes_after = sum(
        len(key) + len(value)
        for key, value in past.store.scan(Family.HISTORY, b"", None)
        if int.from_bytes(key[-8:], "big") > revision
    )
    assert 17_000 < bytes_after <= 20_000


def test_history_from_before_the_record_counts_with_its_size_in_the_store() -> None:
    past, record = Past(), HistoryRecord(age_ms=1_000, bytes_max=1_000)
    for number in range(100):
        past.put(number)
    later = StateMachine(past.store, Limits())
    record.begin(later, past.store)
    assert record.bytes_kept(later) == past.stored_bytes
    assert record.revision_keeping(past.stored_bytes // 2, later) == pytest.approx(51, abs=1)
    # Its age is not known: it counts as if it had just been written.
    assert record.revision_at(later.time_ms - 1) == 0


def test_a_record_has_a_bound() -> None:
    past, record = Past(), HistoryRecord(age_ms=1, bytes_max=0)
    record.begin(past.machine, past.store)
    for number in range(1, 2 * SAMPLES_MAX):
        past.put(number, 1)
        record.observe(number, past.machine)
    assert len(record._samples) <= SAMPLES_MAX
    assert 900 <= record.revision_at(1_000) <= 1_001


def test_a_pin_ends() -> None:
    pins = HistoryPins(10.0)
    pins.pin(5, 0.0)
    pins.pin(7, 4.0)
    pins.pin(6, 4.5)
    assert pins.oldest(9, 9.0) == 5
    assert pins.oldest(9, 10.5) == 6
    assert pins.oldest(9, 14.5) == 9


def test_rocksdb_reports_the_size_of_the_history(tmp_path: Path) -> None:
    store = RocksStateStore(tmp_path / "state", create=True)
    empty = store.size_bytes(Family.HISTORY)
    store.write({Family.HISTORY: {b"%d" % each: bytes(1_000) for each in range(1_000)}})
    assert store.size_bytes(Family.HISTORY) - empty > 900_000
    store.database.close()


# ---- three nodes --------------------------------------------------------------------------


@asynccontextmanager
async def bounded_cluster(
    directory: Path, *, revisions_min: int = 0, age_s: float = 0, bytes_max: int = 0
) -> AsyncIterator[tuple[Wire, Node]]:
    config = replace(
        config_of(leader_lease=False),
        history_revisions_min=revisions_min,
        history_age_ms_max=int(1_000 * age_s),
        history_bytes_max=bytes_max,
        history_pin_s_max=PIN_S,
    )
    async with cluster_of(directory, 1, leader_lease=False, config=config) as (wire, leader):
        await raise_version(wire, leader, AUTHENTICATED)
        yield wire, leader


async def put(node: Node, times: int, pause_s: float = 0.0) -> None:
    command = kv_pb2.Command(put=kv_pb2.Put(key=b"k", value=bytes(VALUE_BYTES)))
    batch = kv_pb2.CommandBatch(commands=[command]).SerializeToString()
    for _ in range(times):
        await node.submit(batch, soon())
        await asyncio.sleep(pause_s)


def compacted(wire: Wire) -> set[int]:
    return {node.machine.compacted_revision for node in wire.nodes.values()}


async def test_history_is_compacted_by_age(tmp_path: Path) -> None:
    async with bounded_cluster(tmp_path, age_s=30) as (wire, leader):
        await put(leader, 20, 1.0)
        assert compacted(wire) == {0}
        await put(leader, 20, 1.0)
        await until(lambda: min(compacted(wire)) > 0)
        assert max(compacted(wire)) <= leader.machine.revision - 29
        await asyncio.sleep(40.0)
        assert compacted(wire) == {leader.machine.revision}
        before = leader.core.commit_index
        await asyncio.sleep(40.0)
        assert leader.core.commit_index == before, "an idle cluster stays idle"


async def test_history_is_compacted_by_bytes_and_some_revisions_stay(tmp_path: Path) -> None:
    async with bounded_cluster(tmp_path, bytes_max=20 * VALUE_BYTES) as (wire, leader):
        await put(leader, 60, 0.2)
        await asyncio.sleep(3.0)
        assert 38 <= min(compacted(wire)) <= 48
        assert leader.driver.history_bytes <= 20 * VALUE_BYTES
    async with bounded_cluster(tmp_path, bytes_max=1, revisions_min=15) as (wire, leader):
        await put(leader, 60, 0.2)
        await asyncio.sleep(3.0)
        assert compacted(wire) == {leader.machine.revision - 15}


async def test_all_history_is_kept_without_bounds(tmp_path: Path) -> None:
    async with bounded_cluster(tmp_path) as (wire, leader):
        await put(leader, 60, 0.2)
        await asyncio.sleep(60.0)
        assert compacted(wire) == {0}


@pytest.mark.parametrize("at_leader", [True, False])
async def test_a_pinned_revision_stays_for_a_while(tmp_path: Path, *, at_leader: bool) -> None:
    async with bounded_cluster(tmp_path, bytes_max=VALUE_BYTES) as (wire, leader):
        reader = leader if at_leader else followers(wire, leader)[0]
        await put(leader, 1)
        await until(lambda: reader.machine.revision == 2)
        reader.pin_history(2)
        await put(leader, int(PIN_S) - 1, 1.0)
        assert max(compacted(wire)) <= 2
        await put(leader, 5, 1.0)
        assert min(compacted(wire)) > 2
        # The next pin has another moment.
        reader.pin_history(leader.machine.revision)
        pinned = leader.machine.revision
        await put(leader, 10, 1.0)
        assert max(compacted(wire)) <= pinned


async def test_pins_of_the_oldest_revision_delay_a_compaction_for_the_bound(tmp_path: Path) -> None:
    async with bounded_cluster(tmp_path, bytes_max=VALUE_BYTES) as (wire, leader):
        for _ in range(60):
            leader.pin_history(max(2, leader.machine.compacted_revision))
            await put(leader, 1, 1.0)
        behind = leader.machine.revision - min(compacted(wire))
        assert PIN_S - 2 <= behind <= PIN_S + 4


async def test_a_member_that_is_down_delays_a_compaction_for_the_bound(tmp_path: Path) -> None:
    async with bounded_cluster(tmp_path, bytes_max=VALUE_BYTES) as (wire, leader):
        await put(leader, 3, 1.0)
        wire.cut_off.add(followers(wire, leader)[0].node_id)
        await put(leader, 10, 1.0)
        assert leader.machine.compacted_revision <= 5
        await put(leader, 40, 1.0)
        behind = leader.machine.revision - leader.machine.compacted_revision
        assert PIN_S - 2 <= behind <= PIN_S + 4


async def test_a_new_leader_knows_the_age_of_the_history(tmp_path: Path) -> None:
    async with bounded_cluster(tmp_path, age_s=30) as (wire, leader):
        await put(leader, 20, 1.0)
        revision = leader.machine.revision
        await leader.driver.transfer_leadership(0, soon())
        await until(lambda: bool(leaders(wire, leader)))
        (successor,) = leaders(wire, leader)
        await put(successor, 1)
        await asyncio.sleep(31.0)
        assert min(compacted(wire)) >= revision
        assert successor.core.leads

"""Clocks that jump, writes that tear, records that rot, and rivals that could be elected."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from jepsen_lite.sim.checks.durable_log import DurableLog, rival_of
from jepsen_lite.sim.checks.invariants import DEAD_S, Invariants
from jepsen_lite.sim.checks.violation import Violation
from jepsen_lite.sim.nodes.disk import SimulatedLog, SimulatedState, damage_snapshot
from jepsen_lite.sim.process import Process
from jepsen_lite.sim.world import World
from raftkv.errors import DamagedData
from raftkv.kv.store import Family
from raftkv.raft.entry import Entry, EntryKind, HardState, Membership

ENTRIES = tuple(Entry(1, index, EntryKind.COMMANDS, b"payload") for index in (1, 2, 3))
MEMBERSHIPS = {(1, 1): Membership(voters=frozenset({1, 2, 3}))}


def woken_at(change: str, value: float) -> float:
    """When a process wakes that sleeps 10 s, and whose clock changes after 2 s."""
    world, woke = World(1), []
    process = Process(world, "p")  # type: ignore[abstract]

    async def sleep() -> None:
        await asyncio.sleep(10)
        woke.append(world.now_s)

    process.enter(lambda: process.create_task(sleep()))
    world.after(2.0, getattr(process, change), value)
    world.run_until(100)
    return woke[0]


def test_a_clock_that_jumps_or_changes_its_rate_takes_its_timers_along() -> None:
    assert woken_at("jump", 3.0) == pytest.approx(7.0, abs=0.001)
    assert woken_at("jump", 60.0) == pytest.approx(2.0, abs=0.001)
    assert woken_at("set_rate", 2.0) == pytest.approx(6.0, abs=0.001)
    assert woken_at("set_rate", 0.5) == pytest.approx(18.0, abs=0.001)
    assert woken_at("set_wall_clock", -60.0) == pytest.approx(10.0, abs=0.001)


async def test_a_torn_write_leaves_the_term_and_the_first_entries() -> None:
    never = asyncio.Event()

    async def stall() -> None:
        await never.wait()

    log = SimulatedLog(stall)
    writing = asyncio.create_task(log.append(HardState(4, 2, 3), ENTRIES))
    await asyncio.sleep(0)
    torn = log.crash(surviving=2).recover()
    assert torn.hard_state == HardState(4, 2, 0)
    assert tuple(torn.entries) == ENTRIES[:2]
    writing.cancel()


async def test_a_record_that_rots_is_refused_by_production_code() -> None:
    async def at_once() -> None:
        pass

    log = SimulatedLog(at_once)
    await log.append(HardState(1, 0, 0), ENTRIES)
    log.flip_bit(Random(1))
    with pytest.raises(DamagedData):
        log.crash().recover()


async def test_a_state_that_rots_is_refused_before_and_after_a_crash(tmp_path: Path) -> None:
    async def at_once() -> None:
        pass

    state = SimulatedState(tmp_path, at_once)
    state.store.write({Family.CURRENT: {b"k": b"v"}})
    state.flip_bit(Random(1))
    for each in (state, state.crash()):
        assert each.flipped
        with pytest.raises(DamagedData):
            await each.verification().step()


async def test_a_damaged_snapshot_is_refused_and_its_receiver_stays_undamaged(
    tmp_path: Path,
) -> None:
    async def at_once() -> None:
        pass

    state = SimulatedState(tmp_path, at_once)
    state.store.write({Family.CURRENT: {b"k": b"v"}})
    state.snapshot_arrives = lambda received: damage_snapshot(received, Random(1))
    checkpoint = await state.checkpoint(1, 1)
    with pytest.raises(DamagedData):
        await state.verify_received(checkpoint.path)
    assert not state.flipped
    await state.verification().step()


def test_a_later_log_without_the_entry_is_a_rival_until_a_majority_is_ahead_of_it() -> None:
    """Figure 8 of the Raft paper, (c) and (e)."""
    ahead = DurableLog(terms=[1, 2, 4])
    older, rival = DurableLog(terms=[1, 2]), DurableLog(terms=[1, 3])
    assert rival_of(2, 2, {1: ahead, 2: older, 3: rival}, MEMBERSHIPS) == 3
    newer = DurableLog(terms=[1, 2, 4])
    assert rival_of(3, 4, {1: ahead, 2: newer, 3: rival}, MEMBERSHIPS) is None


def test_an_unforced_membership_change_must_not_rely_on_dead_members() -> None:
    invariants = Invariants()
    without_two = Membership(frozenset({1, 3}), voters_outgoing=frozenset({1, 2, 3}))
    without_three = Membership(frozenset({1, 2}), voters_outgoing=frozenset({1, 2, 3}))
    invariants.down(3, 10.0)
    invariants.proposed(1, without_two, 10.0 + DEAD_S)  # an answer of 3 may be on its way
    invariants.proposed(1, without_three, 100.0)
    with pytest.raises(Violation, match=r"only \[1, 2\] of them live: that costs the majority"):
        invariants.proposed(1, without_two, 100.0)
    invariants.up(1, 99.0)  # it stood still meanwhile
    invariants.proposed(1, without_two, 100.0)
    invariants.up(3, 150.0)
    invariants.proposed(1, without_two, 200.0)

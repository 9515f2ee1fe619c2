"""Faults are drawn before the run, done in it, and taken back."""

from __future__ import annotations

import asyncio
import itertools
from random import Random

import pytest

from jepsen_lite.db.base import Database, NoEffect
from jepsen_lite.faults.kinds import Compaction, Fault, Isolate, Ring, Split
from jepsen_lite.faults.record import FaultRecord
from jepsen_lite.nemesis.base import ActiveFault, Nemesis
from jepsen_lite.nemesis.catalogue import NEMESES
from jepsen_lite.nemesis.injector import FaultInjector
from jepsen_lite.nemesis.network import pairs_of
from jepsen_lite.nemesis.schedule import ScheduledFault, draw_schedule, shortest_s
from tests.jepsen_lite.idle_database import Idle

NODES = ("a", "b", "c", "d", "e")


class Recorded(Nemesis):
    """Writes down when it was done and undone; its undoing takes a while, or fails."""

    name = "recorded"
    summary = ""

    def __init__(
        self,
        undo_s: float = 0.0,
        failure: Exception | None = None,
        *,
        has_target: bool = True,
    ) -> None:
        self.log: list[str] = []
        self._undo_s = undo_s
        self._failure = failure
        self._has_target = has_target

    def draw(self, rng: Random, size: int) -> Fault:
        return Compaction(0, 0)

    async def inject(self, db: Database, fault: Fault) -> ActiveFault:
        if not self._has_target:
            raise NoEffect("there was nothing there")
        self.log.append("done")

        async def undo() -> str:
            await asyncio.sleep(self._undo_s)
            self.log.append("undone")
            if self._failure is not None:
                raise self._failure
            return "well again"

        return ActiveFault("a", "broken", undo)


def all_nemeses() -> list[Nemesis]:
    return list(NEMESES.values())


def test_the_seed_decides_the_schedule() -> None:
    def drawn(seed: int) -> tuple[ScheduledFault, ...]:
        return draw_schedule(seed, all_nemeses(), 5, 60.0)

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


@pytest.mark.parametrize("seed", range(20))
def test_a_schedule_ends_in_time_and_no_kind_overlaps_itself(seed: int) -> None:
    schedule = draw_schedule(seed, all_nemeses(), 3, 60.0)
    assert schedule
    assert all(each.fault.at_s + each.fault.for_s <= 60.0 for each in schedule)
    by_kind = itertools.groupby(
        sorted(schedule, key=lambda each: (each.nemesis, each.fault.at_s)),
        lambda each: each.nemesis,
    )
    for _, faults in by_kind:
        for earlier, later in itertools.pairwise(faults):
            assert earlier.fault.at_s + earlier.fault.for_s <= later.fault.at_s


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("longer_s", [0.0, 5.0, 45.0])
def test_every_kind_has_a_turn_before_one_has_its_second(seed: int, longer_s: float) -> None:
    chosen = all_nemeses()
    seconds = shortest_s(len(chosen)) + longer_s
    schedule = draw_schedule(seed, chosen, 3, seconds)
    first_turns = schedule[: len(chosen)]
    assert {each.nemesis for each in first_turns} == set(NEMESES)
    assert all(each.fault.for_s >= 0.999 for each in first_turns)
    assert all(each.fault.at_s + each.fault.for_s <= seconds + 0.001 for each in schedule)


def test_a_schedule_too_short_for_a_turn_of_each_nemesis_is_refused() -> None:
    chosen = all_nemeses()
    with pytest.raises(ValueError, match="too few"):
        draw_schedule(1, chosen, 3, shortest_s(len(chosen)) - 0.1)


def test_a_bridge_leaves_one_node_that_reaches_all_others() -> None:
    cut = pairs_of(Split(0, 0, ("b", "c"), "a", one_way=False), NODES)
    assert not [pair for pair in cut if "a" in pair]
    assert {frozenset(pair) for pair in cut} == {
        frozenset(pair) for pair in itertools.product("bc", "de")
    }


def test_in_a_ring_each_node_reaches_a_different_majority() -> None:
    cut = set(pairs_of(Ring(0, 0, NODES), NODES))
    seen = {node: frozenset(other for other in NODES if (node, other) not in cut) for node in NODES}
    assert all(len(others) == 3 for others in seen.values())
    assert len(set(seen.values())) == 5


def test_one_way_cuts_leave_the_other_way() -> None:
    mute = pairs_of(Isolate(0, 0, "a", False, True, clients_too=False), NODES)
    deaf = pairs_of(Isolate(0, 0, "a", True, False, clients_too=False), NODES)
    assert all(sender == "a" for sender, _ in mute)
    assert all(recipient == "a" for _, recipient in deaf)


async def carried_out(nemesis: Recorded, *faults: Fault) -> tuple[FaultInjector, list[FaultRecord]]:
    loop, records = asyncio.get_running_loop(), list[FaultRecord]()
    injector = FaultInjector(Idle(), [nemesis], lambda: round(loop.time() * 1e9), records.append)
    await injector.carry_out([ScheduledFault(nemesis.name, fault) for fault in faults])
    return injector, records


async def test_an_injected_fault_is_undone_and_recorded() -> None:
    nemesis = Recorded()
    injector, (record,) = await carried_out(nemesis, Compaction(0.02, 0.02))
    assert nemesis.log == ["done", "undone"]
    assert (record.target, record.detail) == ("a", "broken; well again")
    assert record.took_effect
    assert record.ended_ns is not None
    assert record.ended_ns - record.began_ns >= 20_000_000
    assert not injector.problems


async def test_a_fault_without_effect_is_recorded_as_such() -> None:
    injector, (record,) = await carried_out(Recorded(has_target=False), Compaction(0, 0))
    assert not record.took_effect
    assert record.detail == "there was nothing there"
    assert not injector.problems


async def test_a_fault_that_can_not_be_undone_is_a_problem_of_the_run() -> None:
    nemesis = Recorded(failure=OSError("stuck"))
    injector, (record,) = await carried_out(nemesis, Compaction(0, 0))
    assert not record.took_effect
    (problem,) = injector.problems
    assert "stuck" in problem


async def test_a_fault_waits_for_no_other_of_its_kind_to_be_undone() -> None:
    """It is left out: two damaged disks at a time could be a majority."""
    first, second = Compaction(0, 0), Compaction(0.02, 0)
    _, records = await carried_out(Recorded(undo_s=0.1), first, second)
    assert sorted(each.took_effect for each in records) == [False, True]

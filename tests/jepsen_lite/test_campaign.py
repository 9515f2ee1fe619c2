"""Faults are drawn before the run, done in it, and taken back."""

from __future__ import annotations

import asyncio
import itertools
from random import Random

import pytest

from jepsen_lite.db.base import Database, NoEffect
from jepsen_lite.nemesis.base import ActiveFault, Fault, Kind, Nemesis
from jepsen_lite.nemesis.catalogue import NEMESES
from jepsen_lite.nemesis.injector import FaultInjector, Struck
from jepsen_lite.nemesis.network import pairs_of
from jepsen_lite.nemesis.schedule import draw_schedule, shortest_s
from tests.jepsen_lite.idle_system import Idle

NODES = ("a", "b", "c", "d", "e")


class Recorded(Kind):
    """Writes down when it was done and undone; its undoing takes a while, or fails."""

    name = "recorded"
    summary = ""

    def __init__(self, undo_s: float = 0.0, failure: Exception | None = None) -> None:
        self.log: list[str] = []
        self._undo_s = undo_s
        self._failure = failure

    def draw(self, rng: Random, size: int) -> Fault:
        return Fault(self.name)

    async def strike(self, system: Database, fault: Fault) -> ActiveFault:
        if fault.how == "nothing there":
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
    def drawn(seed: int) -> tuple[Fault, ...]:
        return draw_schedule(seed, all_nemeses(), 5, 60.0)

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


@pytest.mark.parametrize("seed", range(20))
def test_a_schedule_ends_in_time_and_no_kind_overlaps_itself(seed: int) -> None:
    schedule = draw_schedule(seed, all_nemeses(), 3, 60.0)
    assert schedule
    assert all(fault.at_s + fault.for_s <= 60.0 for fault in schedule)
    by_kind = itertools.groupby(
        sorted(schedule, key=lambda fault: (fault.name, fault.at_s)), lambda fault: fault.name
    )
    for _, faults in by_kind:
        for earlier, later in itertools.pairwise(faults):
            assert earlier.at_s + earlier.for_s <= later.at_s


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("longer_s", [0.0, 5.0, 45.0])
def test_every_kind_has_a_turn_that_is_felt_before_one_has_its_second(
    seed: int, longer_s: float
) -> None:
    chosen = all_nemeses()
    seconds = shortest_s(len(chosen)) + longer_s
    schedule = draw_schedule(seed, chosen, 3, seconds)
    first_turns = schedule[: len(chosen)]
    assert {fault.name for fault in first_turns} == set(NEMESES)
    assert all(fault.for_s >= 0.999 for fault in first_turns)
    assert all(fault.at_s + fault.for_s <= seconds + 0.001 for fault in schedule)


def test_no_schedule_is_drawn_that_has_no_turn_for_somebody() -> None:
    chosen = all_nemeses()
    with pytest.raises(ValueError, match="too few"):
        draw_schedule(1, chosen, 3, shortest_s(len(chosen)) - 0.1)


def test_a_bridge_leaves_one_node_that_reaches_everybody() -> None:
    cut = pairs_of("bridge", NODES, NODES)
    assert not [pair for pair in cut if "a" in pair]
    assert {frozenset(pair) for pair in cut} == {
        frozenset(pair) for pair in itertools.product("bc", "de")
    }


def test_in_a_ring_everybody_has_a_majority_and_nobody_the_same() -> None:
    cut = set(pairs_of("ring", NODES, NODES))
    seen = {node: frozenset(other for other in NODES if (node, other) not in cut) for node in NODES}
    assert all(len(others) == 3 for others in seen.values())
    assert len(set(seen.values())) == 5


def test_one_way_cuts_leave_the_other_way() -> None:
    mute, deaf = pairs_of("mute", ["a"], NODES), pairs_of("deaf", ["a"], NODES)
    assert all(sender == "a" for sender, _ in mute)
    assert all(recipient == "a" for _, recipient in deaf)


async def carried_out(nemesis: Recorded, *schedule: Fault) -> tuple[FaultInjector, list[Struck]]:
    loop, struck = asyncio.get_running_loop(), list[Struck]()
    campaign = FaultInjector(Idle(), [nemesis], lambda: round(loop.time() * 1e9), struck.append)
    await campaign.carry_out(schedule)
    return campaign, struck


async def test_what_was_done_is_undone_and_written_down() -> None:
    nemesis = Recorded()
    campaign, (struck,) = await carried_out(nemesis, Fault("recorded", at_s=0.02, for_s=0.02))
    assert nemesis.log == ["done", "undone"]
    assert (struck.target, struck.detail) == ("a", "broken; well again")
    assert struck.took_effect
    assert struck.ended_ns - struck.began_ns >= 20_000_000
    assert not campaign.problems


async def test_a_fault_without_effect_is_written_down_as_one() -> None:
    campaign, (struck,) = await carried_out(Recorded(), Fault("recorded", how="nothing there"))
    assert not struck.took_effect
    assert struck.detail == "there was nothing there"
    assert not campaign.problems


async def test_what_can_not_be_undone_is_a_problem_of_the_run() -> None:
    nemesis = Recorded(failure=OSError("stuck"))
    campaign, (struck,) = await carried_out(nemesis, Fault("recorded"))
    assert not struck.took_effect
    (problem,) = campaign.problems
    assert "stuck" in problem


async def test_a_fault_waits_for_no_other_of_its_kind_to_be_undone() -> None:
    """It is left out: two damaged disks at a time could be a majority."""
    first, second = Fault("recorded"), Fault("recorded", at_s=0.02)
    _, struck = await carried_out(Recorded(undo_s=0.1), first, second)
    assert sorted(each.took_effect for each in struck) == [False, True]

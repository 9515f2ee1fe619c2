"""A cluster is founded once, by all of its founders together, and by none that has a past."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random

import pytest
from founders import LATENCY_S, World, addresses_of

from raftkv.errors import DamagedData, OutOfService, StorageError
from raftkv.node.founder import ROUND_S_MAX, ROUND_S_MIN
from raftkv.peer.ports import FounderStage, Founding
from raftkv.storage.identity import DirectoryIdentity, Stage
from raftkv.versions import VersionRange
from raftkv.wire.membership import decode_membership


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World(1, 2, 3)
    yield made
    await made.close()


def identity_of(world: World, node_id: int) -> DirectoryIdentity:
    identity = world.disks[node_id].load()
    assert identity is not None
    return identity


async def stored_by(world: World, *node_ids: int) -> None:
    """Let the first node draw, and only these store: then all are down."""
    silent = world.disks.keys() - set(node_ids)
    for id in silent:
        world.disks[id].full = False
    world.start(*world.disks)
    await world.until(lambda: world.processes[1].founder.identity.incarnation != 0)
    for id in silent:
        world.disks[id].full = True
    await world.until(lambda: all(identity_of(world, id).incarnation for id in node_ids))
    await world.crash(*world.disks)
    for id in silent:
        world.disks[id].full = False
    assert {id for id in world.disks if identity_of(world, id).incarnation} == set(node_ids)
    assert not world.incarnations


# ---- the rule ---------------------------------------------------------------------------


async def test_three_empty_disks_found_one_cluster(world: World) -> None:
    world.start(1, 2, 3)
    await world.until(world.all_started)
    (membership,) = world.incarnations.values()
    assert membership.voters == {1, 2, 3}
    assert membership.addresses == addresses_of(1, 2, 3)
    identities = [identity_of(world, id) for id in (1, 2, 3)]
    assert {each.incarnation for each in identities} == set(world.incarnations)
    assert {each.membership for each in identities} == {identities[0].membership}
    assert {each.stage for each in identities} == {Stage.MEMBER}


async def test_once_all_have_stored_all_start_at_once(world: World) -> None:
    world.start(1, 2, 3)
    await world.until(lambda: world.processes[1].founder.report.all_stored)
    await world.until(world.all_started, 5 * LATENCY_S)


async def test_founders_that_start_a_minute_apart_found_one_cluster(world: World) -> None:
    for node_id in (3, 1, 2):
        world.start(node_id)
        await asyncio.sleep(60.0)
        assert world.all_started() is (node_id == 2)
    assert len(world.incarnations) == 1


@pytest.mark.parametrize("silent", [1, 2, 3])
async def test_while_one_founder_does_not_answer_the_others_wait_and_name_it(
    world: World, silent: int
) -> None:
    others = {1, 2, 3} - {silent}
    world.start(*others)
    await asyncio.sleep(600.0)
    for node_id in others:
        assert world.waiting_for(node_id) == {silent: f"node {silent} does not answer"}
        assert identity_of(world, node_id).incarnation == 0
    world.start(silent)
    await world.until(world.all_started, 2 * ROUND_S_MAX)


async def test_a_founder_that_not_all_can_reach_is_waited_for(world: World) -> None:
    world.cut_between(2, 3)
    world.start(1, 2, 3)
    await world.until(lambda: 3 in world.waiting_for(2))
    world.cut.clear()
    await world.until(world.all_started)


async def test_a_node_alone_founds_at_once() -> None:
    world = World(5)
    world.start(5)
    await world.until(world.all_started, ROUND_S_MIN)
    assert world.calls == 0
    (membership,) = world.incarnations.values()
    assert membership.voters == {5}
    await world.close()


async def test_the_version_is_one_that_all_founders_can_take_part_in(world: World) -> None:
    world.versions = {1: VersionRange(0, 7), 2: VersionRange(3, 5), 3: VersionRange(1, 9)}
    world.start(1, 2, 3)
    await world.until(world.all_started)
    assert {identity_of(world, id).version for id in (1, 2, 3)} == {5}


async def test_founders_without_a_common_version_wait_and_report_it(world: World) -> None:
    world.versions = {1: VersionRange(0, 2), 2: VersionRange(3, 5), 3: VersionRange(1, 5)}
    world.start(1, 2, 3)
    await world.until(lambda: 2 in world.waiting_for(1))
    assert "cluster versions 3 to 5" in world.waiting_for(1)[2]
    assert not identity_of(world, 1).incarnation


async def test_founders_with_other_settings_wait_for_each_other(world: World) -> None:
    world.settings[3] = addresses_of(2, 3)
    world.start(1, 2, 3)
    await world.until(lambda: 3 in world.waiting_for(1) and 2 in world.waiting_for(3))
    assert world.waiting_for(1)[3] == "it was started with other initial_members"
    before = world.calls
    await asyncio.sleep(60.0)
    # Two ask two others, and one asks one, with a pause of middle length on the average: none is
    # woken by an earlier report.
    pause_s = (ROUND_S_MIN + ROUND_S_MAX) / 2
    assert world.calls - before < 1.2 * (2 + 2 + 1) * 60.0 / pause_s
    assert not world.incarnations
    await world.crash(3)
    world.settings[3] = addresses_of(1, 2, 3)
    world.start(3)
    await world.until(world.all_started)


async def test_an_address_that_differs_is_another_setting(world: World) -> None:
    world.settings[2] = addresses_of(1, 2) | {3: addresses_of(9)[9]}
    world.start(1, 2, 3)
    await world.until(lambda: 2 in world.waiting_for(1))
    assert world.waiting_for(1)[2] == "it was started with other initial_members"


# ---- without those who will never come --------------------------------------------------


async def test_founders_found_without_those_that_were_given_up(world: World) -> None:
    world.without = {1: frozenset({2}), 3: frozenset({2})}
    world.start(1, 3)
    await world.until(lambda: world.processes[1].started and world.processes[3].started)
    (membership,) = world.incarnations.values()
    assert membership.voters == {1, 3}
    world.start(2)
    await world.until(lambda: not world.processes[2].up)
    failed = world.processes[2].failed
    assert isinstance(failed, DamagedData)
    assert "`raftkv member add 2 --peer n2:1 --client n2:2 -e n1:2`" in failed.message


async def test_all_remaining_founders_must_give_up_the_missing_one(world: World) -> None:
    world.without = {1: frozenset({2})}
    world.start(1, 3)
    await world.until(lambda: 3 in world.waiting_for(1))
    assert world.waiting_for(1)[3] == "it was started with other initial_members"
    await asyncio.sleep(60.0)
    assert not world.incarnations


# ---- crashes ----------------------------------------------------------------------------


@pytest.mark.parametrize("storing", [(1,), (1, 2), (1, 3), (1, 2, 3)])
async def test_after_a_crash_of_all_what_is_stored_is_founded(
    world: World, storing: tuple[int, ...]
) -> None:
    if len(storing) < 3:
        await stored_by(world, *storing)
        incarnation = identity_of(world, 1).incarnation
    else:
        world.start(1, 2, 3)
        await world.until(lambda: all(identity_of(world, id).incarnation for id in (1, 2, 3)))
        await world.crash(1, 2, 3)
        incarnation = identity_of(world, 1).incarnation
    world.start(3, 2, 1)
    await world.until(world.all_started)
    assert set(world.incarnations) == {incarnation}


@pytest.mark.parametrize("late", [2, 3])
async def test_a_founder_that_missed_the_last_message_starts_after_the_others(
    world: World, late: int
) -> None:
    world.start(1, 2, 3)
    await world.until(lambda: world.processes[1].founder.report.all_stored)
    await world.crash(late)
    others = {1, 2, 3} - {late}
    await world.until(lambda: all(world.processes[id].started for id in others))
    assert identity_of(world, late).stage is Stage.FOUNDING
    await world.crash(1)  # it is not needed any more
    world.start(late)
    await world.until(lambda: world.processes[late].started)


async def test_no_founder_starts_before_the_first_node_knows_that_all_have_stored(
    world: World,
) -> None:
    world.start(1, 2, 3)
    await world.until(lambda: all(identity_of(world, id).incarnation for id in (1, 2, 3)))
    assert not world.processes[1].founder.report.all_stored
    await world.crash(1)
    await asyncio.sleep(60.0)
    assert not world.incarnations
    assert world.waiting_for(2) == {1: "node 1 does not answer"}
    world.start(1)
    await world.until(world.all_started)


async def test_a_founder_whose_disk_fails_has_stored_nothing(world: World) -> None:
    await stored_by(world, 1, 2)
    world.start(1, 2, 3)
    world.disks[3].full = True
    founder = world.processes[3].founder
    word = world.processes[1].founder.report
    with pytest.raises(StorageError):
        founder.answer(1, word)
    assert founder.report.stage is FounderStage.EMPTY
    world.disks[3].full = False
    await world.until(world.all_started)


async def test_a_first_node_whose_disk_is_full_stops_with_that_reason(world: World) -> None:
    world.start(1, 2, 3)
    world.disks[1].full = True
    await world.until(lambda: not world.processes[1].up)
    assert isinstance(world.processes[1].failed, StorageError)


async def test_settings_that_changed_after_the_first_store_are_hints(world: World) -> None:
    """A founder that stored the first membership and came back without initial_members took
    itself for the only one, and began before the others had stored.
    """
    await stored_by(world, 1, 2)
    world.settings[2] = addresses_of(2)
    world.settings[1] = {}
    world.start(1, 2)
    await asyncio.sleep(60.0)
    assert not world.incarnations
    assert world.waiting_for(2) == {3: "node 3 does not answer"}
    assert world.processes[2].founder.founders == addresses_of(1, 2, 3)
    moved = addresses_of(9)[9]
    world.settings[2] = addresses_of(2) | {1: moved}
    await world.crash(2)
    world.start(2, 3)
    assert world.processes[2].founder.founders[1] == moved
    await world.until(world.all_started)


# ---- disks with and without a past ------------------------------------------------------


@pytest.mark.parametrize("emptied", [1, 2, 3])
@pytest.mark.parametrize("restarted", [False, True])
async def test_an_emptied_disk_of_a_founded_cluster_is_refused(
    world: World, emptied: int, restarted: bool
) -> None:
    world.start(1, 2, 3)
    await world.until(world.all_started)
    await world.crash(*({1, 2, 3} if restarted else {emptied}))
    world.empty(emptied)
    world.start(*({1, 2, 3} if restarted else {emptied}))
    await world.until(lambda: not world.processes[emptied].up)
    failed = world.processes[emptied].failed
    assert isinstance(failed, DamagedData)
    assert f"`raftkv member replace {emptied} NEW" in failed.message
    assert "Put the directory back" in failed.message


async def test_two_emptied_disks_found_nothing_beside_the_third(world: World) -> None:
    world.start(1, 2, 3)
    await world.until(world.all_started)
    await world.crash(1, 2, 3)
    for emptied in (1, 2):
        world.empty(emptied)
    world.start(1, 2)
    await asyncio.sleep(60.0)  # the third may have what was acknowledged
    assert world.waiting_for(1) == world.waiting_for(2) == {3: "node 3 does not answer"}
    world.start(3)
    await world.until(lambda: not world.processes[1].up and not world.processes[2].up)
    assert len(world.incarnations) == 1


async def test_three_emptied_disks_are_three_empty_disks(world: World) -> None:
    world.start(1, 2, 3)
    await world.until(world.all_started)
    await world.crash(1, 2, 3)
    for emptied in (1, 2, 3):
        world.empty(emptied)
    world.start(1, 2, 3)
    await world.until(world.all_started)
    assert len(world.incarnations) == 2


@pytest.mark.parametrize(("storing", "emptied"), [((1, 2), 1), ((1,), 3), ((1, 2), 2)])
async def test_a_disk_that_is_emptied_before_any_start_gets_the_advice_to_found_again(
    world: World, storing: tuple[int, ...], emptied: int
) -> None:
    await stored_by(world, *storing)
    world.empty(emptied)
    world.start(1, 2, 3)
    await world.until(lambda: not world.processes[emptied].up)
    failed = world.processes[emptied].failed
    assert isinstance(failed, DamagedData)
    assert f"the disk of node {emptied} has been emptied" in failed.message
    assert "No node has voted yet" in failed.message
    assert not world.incarnations


async def test_no_advice_to_empty_disks_while_one_founder_has_started(world: World) -> None:
    """The trace: the first node crashes when all have stored, before it begins itself. The two
    others begin, and acknowledge. A third disk is emptied: to node 1 it looks as if no founder had.
    """
    world.start(1, 2, 3)
    await world.until(lambda: any(process.started for process in world.processes.values()))
    await world.until(world.all_started)
    await world.crash(1, 2, 3)
    founding = identity_of(world, 1)
    world.disks[1].save(
        DirectoryIdentity(
            founding.cluster_id,
            1,
            founding.disk_id,
            incarnation=founding.incarnation,
            stage=Stage.FOUNDING,
            membership=identity_of(world, 2).membership,
        )
    )
    world.empty(3)
    world.start(1, 3)
    await asyncio.sleep(60.0)
    assert world.processes[3].up
    assert "has been emptied" in world.waiting_for(3)[1]
    assert "No node has voted" not in str(world.waiting_for(3))
    world.start(2)
    await world.until(lambda: not world.processes[3].up)
    failed = world.processes[3].failed
    assert failed is not None
    assert "replace" in failed.message
    assert "No node has voted" not in failed.message


async def test_a_founder_given_up_too_late_is_named_as_part_of_what_is_stored(
    world: World,
) -> None:
    await stored_by(world, 1, 2)
    world.without = {2: frozenset({1}), 3: frozenset({1})}
    founder = world.founder_of(2)
    answers = {3: world.founder_of(3).report}
    founder.waiting_for = {1: "node 1 does not answer"}
    founder._consider(answers)
    assert "No node has voted yet" in founder.waiting_for[1]
    world.start(2, 3)
    await world.until(lambda: not world.processes[3].up)
    failed = world.processes[3].failed
    assert isinstance(failed, DamagedData)
    assert "node 3 is not among those that node 2 founds a cluster with" in failed.message
    assert "No node has voted yet" in failed.message
    assert not world.incarnations


async def test_no_advice_to_found_again_while_a_majority_does_not_answer() -> None:
    """They may have begun, and acknowledged entries that no reachable node has."""
    world = World(1, 2, 3, 4, 5)
    await stored_by(world, 1, 2)
    gone = frozenset({1, 4, 5})
    world.without = {2: gone, 3: gone}
    world.start(2, 3)
    await asyncio.sleep(60.0)
    for node_id in (2, 3):
        assert world.processes[node_id].up
        assert "No node has voted" not in str(world.waiting_for(node_id))
    await world.close()


async def test_the_report_of_a_running_cluster_precedes_a_stored_one(world: World) -> None:
    await stored_by(world, 1, 2)
    founder = world.founder_of(3)
    word = Founding(FounderStage.STORED, 77, identity_of(world, 1).membership, disk_id=9)
    taking_part = Founding(FounderStage.STARTED, 78, word.membership, True, disk_id=9)
    with pytest.raises(DamagedData, match="replace"):
        founder._consider({1: word, 2: taking_part})
    assert founder.report.stage is FounderStage.EMPTY


async def test_no_advice_to_found_again_while_one_founder_is_starting(world: World) -> None:
    await stored_by(world, 1, 2)
    world.empty(3)
    founder = world.founder_of(3)
    word = Founding(FounderStage.STORED, 77, identity_of(world, 1).membership, disk_id=9)
    starting = Founding(FounderStage.STARTED, 77, disk_id=9, all_stored=True)
    founder._consider({1: word, 2: starting})
    assert founder.waiting_for[2] == "it is starting"
    assert "No node has voted" not in str(founder.waiting_for)


async def test_no_advice_to_found_again_after_all_have_stored(world: World) -> None:
    """Another one may have begun between two answers."""
    await stored_by(world, 1, 2)
    world.empty(3)
    founder = world.founder_of(3)
    word = Founding(
        FounderStage.STORED, 77, identity_of(world, 1).membership, all_stored=True, disk_id=9
    )
    with pytest.raises(DamagedData, match="replace") as raised:
        founder._consider({1: word, 2: word})
    assert "No node has voted" not in raised.value.message


async def test_two_lives_of_the_same_settings_refuse_each_other(world: World) -> None:
    await stored_by(world, 1)
    first = identity_of(world, 1)
    world.empty(1)
    await stored_by(world, 1, 2)
    world.disks[1].save(first)
    world.start(1, 2, 3)
    await world.until(lambda: not world.processes[1].up)
    failed = world.processes[1].failed
    assert isinstance(failed, OutOfService)
    for incarnation in (first.incarnation, identity_of(world, 2).incarnation):
        assert f"{incarnation:016x}" in failed.message
    assert not world.incarnations


async def test_a_founder_that_is_just_starting_is_waited_for(world: World) -> None:
    """It has read its identity, and not yet the log that says who its members are."""
    world.start(2, 3)
    starting = Founding(FounderStage.STARTED, 5, disk_id=9, all_stored=True)
    answers = {2: world.processes[2].founder.report, 3: world.processes[3].founder.report}
    founder = world.founder_of(1)
    founder._consider({**answers, 2: starting})
    assert founder.waiting_for == {2: "it is starting"}
    assert founder.report.stage is FounderStage.EMPTY


# ---- what others say --------------------------------------------------------------------


async def test_what_a_founder_stores_must_be_for_it(world: World) -> None:
    world.start(1, 2, 3)
    await world.until(world.all_started)
    word = world.processes[1].founder.report
    stored = Founding(FounderStage.STORED, 77, word.membership, disk_id=word.disk_id)
    fresh = World(1, 2, 3, seed=2)
    founder = fresh.founder_of(2)
    assert "has been emptied" in founder.answer(1, stored).refusal
    assert "not among those" in founder.answer(3, stored).refusal  # it is not the first
    alone = World(1, seed=3)
    alone.start(1)
    await alone.until(alone.all_started)
    without = alone.processes[1].founder.report
    assert (
        "not among those"
        in founder.answer(
            1, Founding(FounderStage.STORED, 77, without.membership, disk_id=without.disk_id)
        ).refusal
    )
    assert founder.report.stage is FounderStage.EMPTY
    await alone.close()


async def test_a_version_that_a_founder_can_not_take_part_in_is_not_stored(world: World) -> None:
    await stored_by(world, 1, 2)
    world.versions[3] = VersionRange(7, 9)
    world.start(1, 2, 3)
    await world.until(lambda: not world.processes[3].up)
    failed = world.processes[3].failed
    assert failed is not None
    assert "node 3 can take part in cluster versions 7 to 9" in failed.message
    assert not world.incarnations


async def test_a_report_of_all_stored_counts_only_for_the_incarnation_stored_here(
    world: World,
) -> None:
    await stored_by(world, 1)
    membership = identity_of(world, 1).membership
    other = Founding(FounderStage.STORED, 77, membership, all_stored=True, disk_id=9)
    world.empty(2)
    for node_id in (1, 2):
        founder = world.founder_of(node_id)
        founder.answer(3 - node_id, other)
        assert not founder.report.all_stored


async def test_a_founder_that_does_not_store_is_waited_for_with_its_reason(world: World) -> None:
    await stored_by(world, 1)
    founder = world.founder_of(1)
    empty = Founding(FounderStage.EMPTY, disk_id=9, founders=founder.report.founders)
    founder._consider({2: empty, 3: replace(empty, refusal="no room")})
    assert founder.waiting_for == {2: "it has yet to store the first membership", 3: "no room"}
    assert not founder.report.all_stored


async def test_a_started_node_reports_its_present_members(world: World) -> None:
    world.start(1, 2, 3)
    await world.until(world.all_started)
    said = world.processes[1].founder.report
    assert said.stage is FounderStage.STARTED
    assert said.all_stored
    assert decode_membership(said.membership).voters == {1, 2, 3}
    await world.crash(1)
    world.start(1)
    await world.until(world.all_started)
    assert world.processes[1].founder.report == said


# ---- any order of all of it --------------------------------------------------------------


class Schedule:
    """One seed decides what happens. `World.begins` checks the promises."""

    def __init__(self, seed: int, *, lose_disks: bool) -> None:
        self.rng = Random(seed)
        self.world = World(1, 2, 3, seed=seed)
        self.lose_disks = lose_disks
        self.emptied = False

    async def run(self, steps: int) -> None:
        actions = [*[self.start] * 4, self.crash, self.cut, *[self.heal] * 2, self.fill, self.pause]
        if self.lose_disks:
            actions.append(self.empty)
        for _ in range(steps):
            await self.rng.choice(actions)()
            await asyncio.sleep(self.rng.choice([0.0, 0.003, 0.2, 1.5]))
            self.check_failures()

    def check_failures(self) -> None:
        for process in self.world.processes.values():
            if process.failed is not None and not isinstance(process.failed, StorageError):
                assert self.emptied, process.failed

    async def recover(self) -> None:
        world = self.world
        world.cut.clear()
        for disk in world.disks.values():
            disk.full = False
        for id in world.disks:
            process = world.processes.get(id)
            if process is not None and isinstance(process.failed, StorageError):
                await world.crash(id)
            if id not in world.processes:
                world.start(id)
        await asyncio.sleep(30.0)
        self.check_failures()

    def _any(self) -> int:
        return self.rng.choice(list(self.world.disks))

    async def start(self) -> None:
        id = self._any()
        if id not in self.world.processes and not self.world.disks[id].full:
            self.world.start(id)

    async def crash(self) -> None:
        if self.world.processes:
            await self.world.crash(self.rng.choice(list(self.world.processes)))

    async def cut(self) -> None:
        one, other = self.rng.sample(list(self.world.disks), 2)
        self.world.cut_between(one, other)

    async def heal(self) -> None:
        self.world.cut.clear()

    async def fill(self) -> None:
        disk = self.world.disks[self._any()]
        disk.full = not disk.full and self.rng.random() < 0.3

    async def empty(self) -> None:
        id = self._any()
        if id not in self.world.processes:
            self.world.empty(id)
            self.emptied = True

    async def pause(self) -> None:
        await asyncio.sleep(self.rng.uniform(0.0, 5.0))


@pytest.mark.parametrize("seed", range(60))
async def test_however_founders_crash_they_found_one_cluster(seed: int) -> None:
    schedule = Schedule(seed, lose_disks=False)
    await schedule.run(40)
    await schedule.recover()
    assert schedule.world.all_started()
    assert len(schedule.world.incarnations) == 1
    await schedule.world.close()


@pytest.mark.parametrize("seed", range(120))
async def test_whatever_disks_are_lost_no_second_cluster_is_founded(seed: int) -> None:
    schedule = Schedule(seed, lose_disks=True)
    await schedule.run(40)
    await schedule.recover()
    for id, process in schedule.world.processes.items():
        named = schedule.world.waiting_for(id)
        assert process.started or process.failed is not None or named, f"node {id} is stuck"
    await schedule.world.close()


async def test_the_random_schedules_found_clusters() -> None:
    founded = lost = 0
    for seed in range(40):
        schedule = Schedule(seed, lose_disks=True)
        await schedule.run(40)
        await schedule.recover()
        founded += len(schedule.world.incarnations)
        lost += sum(process.failed is not None for process in schedule.world.processes.values())
        await schedule.world.close()
    assert founded > 20
    assert lost > 4

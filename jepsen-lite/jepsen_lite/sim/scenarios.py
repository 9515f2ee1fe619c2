"""Scenarios: runs that concentrate on one kind of fault, each drawn from a seed.

A plain run has a bit of everything, and finds what is easy to find in anything. What needs one
order of events and a cluster that is set up for it is found here, within a few seeds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import TypeAlias

from jepsen_lite.faults.kinds import (
    LEADER,
    MEMORY,
    SNAPSHOT,
    STATE,
    TRIGGERING_NODE,
    BitFlip,
    DirectRemoval,
    Fault,
    Isolate,
    Kill,
    MemberChange,
    NetworkConditions,
    Pause,
    RollingFault,
    SlowDisk,
    Stop,
    Stranger,
    Transfer,
    Trigger,
    TriggeredFault,
    WallClockJump,
)
from jepsen_lite.sim.checks.invariants import DEAD_S
from jepsen_lite.sim.deal import deal
from jepsen_lite.sim.injection.disk_schedule import COPIED, EMPTIED, Draw, clone
from jepsen_lite.sim.injection.schedule import draw_conditions, draw_rolling, draw_triggered
from jepsen_lite.sim.injection.strangers import FRAMES, REFUSALS
from jepsen_lite.sim.plan import SECONDS, Plan, at_rate, busy_plan, draw_plan
from jepsen_lite.sim.service_scenarios import (
    bounded_history,
    breadth,
    candidates,
    compactions,
    coordination,
    removals,
    rights,
    slow_answers,
    snapshots_beside_readers,
)

LOAD_SECONDS, LOAD_NODES, LOAD_RATE = 30.0, 3, 50.0
SMALL_LOG_BYTES = 2 << 10
Scenario: TypeAlias = Callable[[int], Plan]


def anything(seed: int) -> Plan:
    """A bit of everything."""
    return draw_plan(seed, SECONDS)


def load(seed: int) -> Plan:
    """The faults of a plain run, on three nodes that have 50 operations a second to do."""
    return at_rate(draw_plan(seed, LOAD_SECONDS, LOAD_NODES), LOAD_RATE)


def relays(seed: int) -> Plan:
    """Leaders are cut off one after the other, half way through whatever they do."""
    plan, rng = busy_plan(seed, "relays")
    append_bytes_max = rng.choice((100, 1 << 20))
    faults = [draw_rolling(rng, at_s) for at_s in (1.0, 4.0, 7.0)]
    return replace(
        plan,
        tuning=replace(plan.tuning, append_bytes_max=append_bytes_max),
        schedule=tuple(faults),
    )


def elections(seed: int) -> Plan:
    """Candidates and new leaders meet with faults."""
    plan, rng = busy_plan(seed, "elections")
    conditions = draw_conditions(rng) if rng.random() < 0.5 else NetworkConditions()
    faults: list[Fault] = [
        draw_triggered(rng, plan.node_names, at_s) for at_s in (1.0, 1.1, 4.0, 7.0)
    ]
    for at_s in range(2, 10):
        faults.append(Kill(float(at_s), rng.uniform(0.1, 1.0), (LEADER,), power=True))
    return replace(plan, conditions=conditions, schedule=tuple(faults))


def power_cuts(seed: int) -> Plan:
    """One machine, most or all of them lose power, again and again."""
    plan, rng = busy_plan(seed, "power cuts")
    names = plan.node_names
    faults: list[Fault] = []
    for at_s in range(1, 10):
        victims = tuple(rng.sample(names, rng.randint(1, len(names))))
        faults.append(Kill(at_s + rng.random(), rng.uniform(0.1, 0.5), victims, power=True))
    return replace(plan, schedule=tuple(faults))


def fresh_leaders(seed: int) -> Plan:
    """A leader that has acknowledged a commit to its clients, but not to its followers, goes;
    the next leader is slow to commit anything.
    """
    plan, rng = busy_plan(seed, "fresh leaders")
    faults: list[Fault] = []
    for at_s in (1.0, 3.0, 5.0, 7.0):
        soon_s = rng.choice((0.0002, 0.001, 0.003))
        crash = rng.random() < 0.5
        faults.append(RollingFault(at_s, 2.0, ((Trigger.COMMITTED, soon_s),), crash=crash))
        slow = SlowDisk(0.0, 0.5, tuple(plan.node_names), rng.choice((0.05, 0.2)))
        faults.append(TriggeredFault(at_s, 2.0, Trigger.LEADER, 2, slow))
    return replace(plan, schedule=tuple(faults))


def memberships(seed: int) -> Plan:
    """Memberships change under leaders that come and go, in clusters of an even number, too."""
    plan, rng = busy_plan(seed, "memberships")
    plan = replace(plan, nodes=rng.choice((3, 4, 4)))
    names = plan.node_names
    faults: list[Fault] = []
    for at_s in (1.0, 4.0, 7.0):
        steps = (
            (Trigger.MEMBERSHIP, rng.choice((0.0, 0.0, 0.0005, 0.002))),
            *((Trigger.LEADER, rng.choice((0.005, 0.01, 0.1, 0.5))) for _ in range(3)),
        )
        # Without `force` a new leader waits for acknowledgements, which commit its first entry.
        first, cut_off, *others = rng.sample(names, len(names))
        force = rng.random() < 0.7
        if force or rng.random() < 0.5:
            isolate = Isolate(0.0, rng.uniform(0.2, 1.0), cut_off, True, True, False)
            faults.append(TriggeredFault(at_s + 0.2, 3.0, Trigger.LEADER, 1, isolate))
        remove = cut_off if force else rng.choice(names)
        at_once = DirectRemoval(0.0, 0.0, TRIGGERING_NODE, remove, force)
        faults += [
            Transfer(at_s - 0.5, 0.0, first),
            RollingFault(at_s, 4.0, steps, crash=rng.random() < 0.3),
            DirectRemoval(at_s + 0.1, 0.0, LEADER, rng.choice(others)),
            TriggeredFault(at_s + 0.2, 3.0, Trigger.LEADER, 1, at_once),
            MemberChange(
                at_s + 1.5, 0.0, LEADER if rng.random() < 0.5 else "", True, add_first=True
            ),
        ]
    return replace(plan, schedule=tuple(faults))


def leaving_leaders(seed: int) -> Plan:
    """The leader is removed from the cluster, while one of the others is slow."""
    plan, rng = busy_plan(seed, "leaving leaders")
    plan = replace(plan, nodes=rng.choice((3, 4)))
    names = plan.node_names
    faults: list[Fault] = []
    for at_s in (1.5, 4.5, 7.0):
        faults += [
            SlowDisk(at_s - 0.5, 2.0, (rng.choice(names),), rng.choice((0.005, 0.05))),
            MemberChange(at_s, 0.0, LEADER, True, add_first=rng.random() < 0.3),
        ]
    return replace(plan, schedule=tuple(faults))


def forgotten_nodes(seed: int) -> Plan:
    """The operator forgets about a node that is down and removes another one: of three voters, the
    two that would be left could commit nothing until that node is back.
    """
    plan, rng = busy_plan(seed, "forgotten nodes")
    leader, down, other = rng.sample(plan.node_names, 3)
    down_s = rng.uniform(0.8, 1.5)
    asked_s = down_s + rng.uniform(DEAD_S, DEAD_S + 1.0)
    faults = (
        Transfer(0.3, 0.0, leader),
        Kill(down_s, DEAD_S + 3.0, (down,), power=True),
        MemberChange(asked_s, 0.0, rng.choice((leader, other)), add=False, add_first=False),
    )
    return replace(plan, schedule=faults)


def snapshots(seed: int) -> Plan:
    """Logs are so short that a node that was down needs a snapshot."""
    plan, rng = busy_plan(seed, "snapshots")
    names = plan.node_names
    faults: list[Fault] = []
    for at_s in range(1, 9):
        victim, for_s = rng.choice(names), rng.uniform(0.5, 1.5)
        if rng.random() < 0.5:
            faults.append(Kill(at_s + rng.random(), for_s, (victim,), power=True))
        else:
            faults.append(Isolate(at_s + rng.random(), for_s, victim, True, True, False))
    return replace(
        plan,
        session_ttl_ms=60_000,
        tuning=replace(
            plan.tuning,
            log_compaction_bytes=SMALL_LOG_BYTES,
            log_retained_bytes=SMALL_LOG_BYTES // 4,
        ),
        schedule=tuple(faults),
    )


def bit_rot(seed: int) -> Plan:
    """A bit turns over on one disk."""
    plan, rng = busy_plan(seed, "bit rot")
    names = plan.node_names
    victim = rng.choice(names)
    stop = Stop(rng.uniform(5.0, 8.0), 0.5, rng.choice(names))
    return replace(plan, schedule=(BitFlip(rng.uniform(2.0, 4.0), 0.5, victim), stop))


def damage(seed: int) -> Plan:
    """A bit of the leader's state turns over, then one of a snapshot; new nodes get snapshots."""
    plan, rng = snapshots(seed), Random(f"{seed}/damage")
    at_s = rng.uniform(3.0, 4.0)
    faults: list[Fault] = []
    for part, begin_s in ((STATE, at_s), (SNAPSHOT, at_s + 3.0)):
        faults += [
            BitFlip(begin_s, 0.0, LEADER, part),
            MemberChange(begin_s + 0.05, 0.0, "", add=True, add_first=True),
        ]
    return replace(plan, schedule=tuple(faults))


def wrong_states(seed: int) -> Plan:
    """A bit of one node's memory turns over, in a row that entries read; leaders come and go."""
    plan, rng = busy_plan(seed, "wrong states")
    names = plan.node_names
    victim = rng.choice((LEADER, *names))
    faults: list[Fault] = [BitFlip(rng.uniform(1.5, 3.0), 0.0, victim, MEMORY)]
    if rng.random() < 0.5:
        # Without a third node, two that differ are in dispute until it is back.
        faults.append(
            Kill(rng.uniform(1.0, 3.0), rng.uniform(1.0, 3.0), (rng.choice(names),), True)
        )
    if rng.random() < 0.5:
        faults.append(Transfer(rng.uniform(2.0, 4.0), 0.0, rng.choice(names)))
    tuning = replace(plan.tuning, older_programs=False)
    return replace(plan, schedule=tuple(faults), tuning=tuning, workloads=("register", "set"))


def emptied_disks(seed: int) -> Plan:
    """A disk is empty when its node boots again, or those of a majority are."""
    return _with_one_of(EMPTIED, seed, "emptied disks")


def copied_disks(seed: int) -> Plan:
    """A node boots from an older copy of its disk, or from another node's."""
    return _with_one_of(COPIED, seed, "copied disks")


def cloned_disks(seed: int) -> Plan:
    """Two nodes run from one disk."""
    return _with_one_of((clone,), seed, "cloned disks")


def strangers(seed: int) -> Plan:
    """A process that is no member sends impossible messages to one node after another."""
    plan, rng = busy_plan(seed, "strangers")
    messages = rng.sample([*FRAMES, *REFUSALS], len(FRAMES) + len(REFUSALS))
    faults = [
        Stranger(1.0 + 0.7 * number, 0.0, rng.choice([LEADER, *plan.node_names]), each)
        for number, each in enumerate(messages)
    ]
    return replace(plan, schedule=tuple(faults))


def older_programs(seed: int) -> Plan:
    """The first nodes run an older program; one after the other starts with the present one."""
    plan, rng = busy_plan(seed, "older programs")
    names = plan.node_names
    faults: list[Fault] = [
        Stop(1.5 + 1.5 * number, rng.uniform(0.1, 0.5), name)
        for number, name in enumerate(rng.sample(names, len(names)))
    ]
    faults.append(Kill(rng.uniform(2.0, 6.0), 0.3, (rng.choice(names),), power=True))
    tuning = replace(plan.tuning, older_programs=True)
    return replace(plan, schedule=tuple(faults), tuning=tuning)


def set_clocks(seed: int) -> Plan:
    """Leaders serve reads by their lease, are isolated, and their wall clocks are set."""
    plan, rng = busy_plan(seed, "set clocks")
    faults: list[Fault] = []
    for at_s in range(1, 9):
        moment_s = at_s + rng.random()
        faults.append(WallClockJump(moment_s, 0.0, LEADER, rng.choice((-60.0, -2.0, -0.5, 2.0))))
        if rng.random() < 0.4:
            faults.append(Pause(moment_s + 0.01, rng.uniform(0.5, 2.0), LEADER))
        elif rng.random() < 0.6:
            faults.append(Isolate(moment_s + 0.01, 1.5, LEADER, True, True, False))
    return replace(
        plan,
        clock_skew=0.03,
        tuning=replace(plan.tuning, leader_lease=True),
        schedule=tuple(faults),
    )


def _named(scenario: Scenario) -> tuple[str, Scenario]:
    """Its plans know which one they are of, so that they can be drawn again."""
    name = scenario.__name__.replace("_", "-")

    @functools.wraps(scenario)
    def drawn(seed: int) -> Plan:
        return replace(_with_a_fault(scenario(seed)), scenario=name)

    return name, drawn


def _with_a_fault(plan: Plan) -> Plan:
    """The plan with one fault more if all of its faults wait for what may never happen."""
    if plan.founding or not all(map(_may_never_begin, plan.schedule)):
        return plan
    certain = Kill(plan.seconds / 2, 1.0, (plan.node_names[0],), power=True)
    return replace(plan, schedule=(*plan.schedule, certain))


def _may_never_begin(fault: Fault) -> bool:
    """Whether a fault waits for another than a first write: a leader that nothing disturbs stays,
    and nothing else changes the membership.
    """
    match fault:
        case RollingFault():
            first, _ = fault.steps[0]
        case TriggeredFault():
            first = fault.trigger
        case _:
            return False
    return first not in (Trigger.APPENDED, Trigger.COMMITTED)


SCENARIOS: Mapping[str, Scenario] = dict(
    _named(scenario)
    for scenario in (
        anything,
        load,
        relays,
        elections,
        power_cuts,
        fresh_leaders,
        memberships,
        leaving_leaders,
        forgotten_nodes,
        snapshots,
        bit_rot,
        damage,
        wrong_states,
        emptied_disks,
        copied_disks,
        cloned_disks,
        strangers,
        older_programs,
        set_clocks,
        coordination,
        candidates,
        removals,
        compactions,
        bounded_history,
        rights,
        slow_answers,
        breadth,
        snapshots_beside_readers,
    )
)


def _with_one_of(draws: Sequence[Draw], seed: int, purpose: str) -> Plan:
    plan, rng = busy_plan(seed, purpose)
    (draw,) = deal(draws, seed, purpose)
    drawn = draw(rng, plan.node_names, round(rng.uniform(5.0, 6.0), 3))
    return replace(plan, schedule=drawn.faults, founding=drawn.founding)

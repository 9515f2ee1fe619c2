"""Draws the schedule of a simulation's faults from its seed, before the run."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from jepsen_lite.faults.kinds import (
    LEADER,
    LOG,
    SNAPSHOT,
    STATE,
    TRIGGERING_NODE,
    BitFlip,
    BrokenLink,
    ClockJump,
    ClockRate,
    Compaction,
    Fault,
    FullDisk,
    Isolate,
    Kill,
    MemberChange,
    NetworkConditions,
    Pause,
    PoorNetwork,
    RollingFault,
    Schedule,
    SlowDisk,
    SlowLink,
    Split,
    Stop,
    Transfer,
    Trigger,
    Triggerable,
    TriggeredFault,
    WallClockJump,
    takes_effect,
)

KINDS = (
    Kill, Pause, Isolate, Split, SlowLink, PoorNetwork, SlowDisk, FullDisk, BrokenLink, Transfer,
    Stop, MemberChange, BitFlip, ClockJump, ClockRate, WallClockJump, TriggeredFault, RollingFault,
)  # fmt: skip
WEIGHTS = (6, 3, 4, 4, 2, 3, 2, 1, 2, 2, 2, 4, 3, 1, 1, 1, 5, 4)
TRIGGERS = (
    Trigger.LEADER, Trigger.LEADER, Trigger.CANDIDATE, Trigger.LEADER, Trigger.APPENDED,
    Trigger.MEMBERSHIP, Trigger.COMMITTED,
)  # fmt: skip


def draw_schedule(
    rng: Random, nodes: Sequence[str], seconds: float, *, steady_clocks: bool
) -> Schedule:
    """Faults that begin within `seconds`, at least one of which will take effect. Each run has its
    own mix and its own density.
    """
    kinds = [
        (kind, weight)
        for kind, weight in zip(KINDS, WEIGHTS, strict=True)
        if rng.random() < 0.6 and not (steady_clocks and kind in (ClockJump, ClockRate))
    ] or [(Kill, 1)]
    pause_s = rng.choice((0.5, 1.0, 2.0, 4.0))
    faults: list[Fault] = []
    at_s = 1.0
    while at_s < seconds:
        (kind,) = rng.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])
        fault = _draw(rng, kind, nodes, round(at_s, 3))
        faults.append(fault)
        if isinstance(fault, BitFlip) and (fault.part == STATE or rng.random() < 0.5):
            # A new node gets all of the leader's state, rarely read rows included.
            faults.append(MemberChange(round(at_s + 0.05, 3), 0.0, "", add=True, add_first=True))
        at_s += rng.expovariate(1 / pause_s)
    if not any(takes_effect(fault) and fault.at_s < seconds for fault in faults):
        faults.append(Kill(round(seconds / 2, 3), 1.0, (nodes[0],), power=True))
    return tuple(faults)


def draw_compactions(rng: Random, seconds: float) -> Schedule:
    """Compactions at random moments."""
    return tuple(
        Compaction(round(rng.uniform(1.0, seconds), 3), 0.0) for _ in range(int(seconds / 2))
    )


def _draw(rng: Random, kind: type[Fault], nodes: Sequence[str], at_s: float) -> Fault:
    for_s = round(rng.choice((0.05, 0.5, 1.0, 2.0, 4.0, 8.0)) * rng.uniform(0.5, 1.5), 3)
    one = _one(rng, nodes)
    source, target = rng.sample(list(nodes), 2)
    if kind is Kill:
        number = rng.choice((1, 1, 1, 1, 2, len(nodes)))
        victims = tuple(rng.sample(list(nodes), number)) if number > 1 else (one,)
        return Kill(at_s, for_s, victims, power=rng.random() < 0.7)
    if kind is Pause:
        return Pause(at_s, for_s, one)
    if kind is Isolate:
        ways = rng.choice(((True, True), (True, True), (True, False), (False, True)))
        return Isolate(at_s, for_s, one, *ways, clients_too=rng.random() < 0.3)
    if kind is Split:
        group = tuple(rng.sample(list(nodes), rng.randint(1, len(nodes) - 1)))
        bridge = rng.choice(list(nodes)) if rng.random() < 0.4 else ""
        return Split(at_s, for_s, group, bridge, one_way=rng.random() < 0.3)
    if kind is SlowLink:
        return SlowLink(at_s, for_s, source, target, rng.choice((0.02, 0.2, 1.0)))
    if kind is PoorNetwork:
        return PoorNetwork(at_s, for_s, draw_conditions(rng))
    if kind is SlowDisk:
        return SlowDisk(at_s, for_s, (one,), rng.choice((0.01, 0.1, 0.5)))
    if kind is FullDisk:
        return FullDisk(at_s, for_s, one)
    if kind is BrokenLink:
        return BrokenLink(at_s, 0.0, source, target)
    if kind is Stop:
        return Stop(at_s, for_s, one)
    if kind is MemberChange:
        add = rng.random() < 0.7
        remove = one if not add or rng.random() < 0.7 else ""
        return MemberChange(at_s, 0.0, remove, add, add_first=rng.random() < 0.5)
    if kind is BitFlip:
        part = rng.choice((LOG, STATE, STATE, STATE, SNAPSHOT))
        node = rng.choice(list(nodes))
        return BitFlip(at_s, for_s, LEADER if part == STATE and rng.random() < 0.8 else node, part)
    if kind is ClockJump:
        return ClockJump(at_s, 0.0, one, rng.choice((0.2, 1.0, 5.0, 60.0)))
    if kind is ClockRate:
        return ClockRate(at_s, for_s, one, rng.choice((0.5, 0.9, 1.1, 2.0)))
    if kind is WallClockJump:
        return WallClockJump(at_s, 0.0, one, rng.choice((-60.0, -1.0, 1.0, 60.0)))
    if kind is TriggeredFault:
        return draw_triggered(rng, nodes, at_s)
    if kind is RollingFault:
        return draw_rolling(rng, at_s)
    return Transfer(at_s, 0.0, target)


def draw_triggered(rng: Random, nodes: Sequence[str], at_s: float) -> TriggeredFault:
    trigger = rng.choice(TRIGGERS)
    return TriggeredFault(
        at_s, rng.uniform(2.0, 15.0), trigger, rng.randint(1, 6), _draw_triggerable(rng, nodes)
    )


def draw_rolling(rng: Random, at_s: float) -> RollingFault:
    """Some steps are so fast that no operation completes, others are slow enough for a few."""
    steps = tuple(
        (
            rng.choice((Trigger.LEADER, Trigger.APPENDED, Trigger.MEMBERSHIP, Trigger.COMMITTED)),
            rng.choice((0.0, 0.001, 0.005, 0.05, 0.3, 0.8)) * rng.uniform(0.5, 1.5),
        )
        for _ in range(rng.randint(2, 8))
    )
    return RollingFault(at_s, rng.uniform(4.0, 12.0), steps, crash=rng.random() < 0.3)


def _draw_triggerable(rng: Random, nodes: Sequence[str]) -> Triggerable:
    soon_s = rng.choice((0.0, 0.001, 0.005, 0.02, 0.1)) * rng.uniform(0.5, 1.5)
    for_s = rng.choice((0.01, 0.1, 1.0, 3.0)) * rng.uniform(0.5, 1.5)
    choice = rng.random()
    if choice < 0.3:
        return Kill(soon_s, for_s, (TRIGGERING_NODE,), power=True)
    if choice < 0.5:
        # The nodes whose votes or disks it needs.
        victims = tuple(rng.sample(list(nodes), rng.randint(1, len(nodes) - 1)))
        return Kill(soon_s, for_s, victims, power=True)
    if choice < 0.7:
        ways = rng.choice(((True, True), (True, False), (False, True)))
        return Isolate(soon_s, for_s, TRIGGERING_NODE, *ways, clients_too=rng.random() < 0.3)
    if choice < 0.8:
        return Pause(soon_s, for_s, TRIGGERING_NODE)
    return SlowDisk(soon_s, for_s, tuple(nodes), rng.choice((0.1, 0.5)))


def _one(rng: Random, nodes: Sequence[str]) -> str:
    return LEADER if rng.random() < 0.5 else rng.choice(list(nodes))


def draw_conditions(rng: Random) -> NetworkConditions:
    """Random rates of loss, duplication and reordering."""
    return NetworkConditions(
        delay_s_mean=rng.choice((0.0005, 0.002, 0.01)),
        loss=rng.choice((0.0, 0.01, 0.1, 0.3)),
        duplication=rng.choice((0.0, 0.01, 0.1, 0.3)),
        straggling=rng.choice((0.0, 0.01, 0.1, 0.3)),
        straggle_s_max=rng.choice((0.01, 0.3, 2.0)),
    )

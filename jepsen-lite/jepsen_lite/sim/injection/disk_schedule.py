"""Draws the faults of `disk_faults.py`, each with the events that lead up to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from jepsen_lite.faults.kinds import (
    LEADER,
    NEWEST,
    TRIGGERING_NODE,
    BitFlip,
    Clone,
    Compaction,
    EmptyDisk,
    Fault,
    ForeignCopy,
    Kill,
    MemberChange,
    OlderCopy,
    PowerCuts,
    Schedule,
    Trigger,
    TriggeredFault,
    takes_effect,
)
from jepsen_lite.sim.injection.disk_faults import MET_S, NOTED_S, RESTART_S

SHARE = 0.25
"""Share of the plain runs that have one such fault."""
SECONDS_MIN = 8.0
"""Shorter plain runs have none."""
SETTLED_S = 1.0
"""In a fair network a node that must not take part is refused within this time."""
CHANGE_S = 4.0
"""In a fair network the operator adds a node within this time."""


@dataclass(frozen=True, slots=True)
class DrawnFaults:
    """Faults that belong together.

    `calm` is the time, from and to, in which no other fault may be active: else the outcome would
    not be defined. The moments of `founding` count from the first boot.
    """

    faults: Schedule
    calm: tuple[float, float] | None = None
    founding: Schedule = ()


Draw: TypeAlias = Callable[[Random, Sequence[str], float], DrawnFaults]
"""Takes the nodes, and the moment at which the disk is lost or doubled."""


def with_lost_disk(
    rng: Random, schedule: Schedule, nodes: Sequence[str], seconds: float, *, fair: bool
) -> tuple[Schedule, Schedule]:
    """The schedule, in a `SHARE` of the runs with a disk that is lost or doubled, and the founding
    faults. `fair`: the run's own network loses and delays nothing.
    """
    if seconds < SECONDS_MIN or rng.random() >= SHARE:
        return schedule, ()
    draw = rng.choice((*ANYWHERE, *IN_CALM) if fair else ANYWHERE)
    at_s = round(rng.uniform(0.5, 0.7) * seconds, 3)
    drawn = draw(rng, nodes, at_s)
    # The fault would not begin beside another damaged disk, or while the membership changes.
    schedule = tuple(fault for fault in schedule if not _prevents(fault, at_s))
    if drawn.calm is not None:
        schedule = tuple(fault for fault in schedule if not _overlaps(fault, *drawn.calm))
    if not any(map(takes_effect, schedule)):
        schedule += (Kill(round(seconds - 0.5, 3), 1.0, (nodes[0],), power=True),)
    return schedule + drawn.faults, drawn.founding


# ---- disks that are emptied ----------------------------------------------------------


def emptied(rng: Random, nodes: Sequence[str], at_s: float) -> DrawnFaults:
    """The disk of one of the first nodes is emptied."""
    one, for_s = rng.choice(list(nodes)), _down_s(rng)
    return DrawnFaults((EmptyDisk(at_s, for_s, (one,), _restarts(rng, nodes, one, for_s)),))


def emptied_while_one_lags(rng: Random, nodes: Sequence[str], at_s: float) -> DrawnFaults:
    """The last acknowledged writes were on the emptied disk, and are on one that is back late."""
    one, late, *lagging = rng.sample(list(nodes), len(nodes))
    for_s = _down_s(rng)
    power_cuts = ((late, for_s + _late_s(rng)),)
    return DrawnFaults((_lag(at_s, for_s, lagging), EmptyDisk(at_s, for_s, (one,), power_cuts)))


def emptied_majority(rng: Random, nodes: Sequence[str], at_s: float) -> DrawnFaults:
    """A majority of the disks is emptied while the other nodes are down, perhaps for longer."""
    late_s = _late_s(rng) if rng.random() < 0.7 else 0.0
    return _emptied_majority(rng, rng.sample(list(nodes), len(nodes)), late_s, at_s)


def emptied_founder(rng: Random, nodes: Sequence[str], at_s: float) -> DrawnFaults:
    """A majority of the disks is emptied, with that of the node that founds a cluster if all disks
    are empty; the other nodes are back late.
    """
    first, *others = nodes
    mixed = [first, *rng.sample(others, len(others))]
    return _emptied_majority(rng, mixed, _late_s(rng), at_s)


def _emptied_majority(rng: Random, mixed: Sequence[str], late_s: float, at_s: float) -> DrawnFaults:
    number, for_s = rng.choice((len(mixed) // 2 + 1, len(mixed) - 1)), _down_s(rng)
    power_cuts = tuple((name, for_s + late_s) for name in mixed[number:])
    return DrawnFaults((EmptyDisk(at_s, for_s, tuple(mixed[:number]), power_cuts),))


def emptied_newest(rng: Random, nodes: Sequence[str], at_s: float) -> DrawnFaults:
    """The disk of a node that was added is emptied, so that it boots to join."""
    for_s = _down_s(rng)
    add = MemberChange(round(at_s - CHANGE_S, 3), 0.0, "", add=True, add_first=True)
    return DrawnFaults((add, EmptyDisk(at_s, for_s, (NEWEST,), _restarts(rng, nodes, "", for_s))))


def emptied_in_the_act(rng: Random, nodes: Sequence[str], at_s: float) -> DrawnFaults:
    """The disk of a node is emptied that has just voted, was elected, or has committed first."""
    trigger = rng.choice((Trigger.VOTED, Trigger.LEADER, Trigger.COMMITTED))
    fault = EmptyDisk(rng.choice((0.002, 0.01, 0.1)), rng.choice((0.01, 0.3)), (TRIGGERING_NODE,))
    down = Kill(round(at_s + 0.1, 3), _down_s(rng), (LEADER,), power=True)
    return DrawnFaults((TriggeredFault(at_s, 4.0, trigger, 1, fault), down))


def emptied_voter(rng: Random, nodes: Sequence[str], at_s: float) -> DrawnFaults:
    """The disk of a founder is emptied that has voted and has done nothing else."""
    fault = EmptyDisk(rng.choice((0.003, 0.006)), rng.choice((0.01, 0.1, 1.0)), (TRIGGERING_NODE,))
    return DrawnFaults((), founding=(TriggeredFault(0.0, 10.0, Trigger.VOTED, 1, fault),))


# ---- copies --------------------------------------------------------------------------


def foreign(rng: Random, nodes: Sequence[str], at_s: float) -> DrawnFaults:
    """One node gets a copy of another one's disk."""
    one, source = rng.sample(list(nodes), 2)
    for_s = _down_s(rng)
    power_cuts = _restarts(rng, nodes, one, for_s)
    return DrawnFaults((ForeignCopy(at_s, for_s, one, source, power_cuts),))


def older(rng: Random, nodes: Sequence[str], at_s: float) -> DrawnFaults:
    """The copy lacks what the node has acknowledged since, and the leader has noted."""
    one = rng.choice(list(nodes))
    return _older(rng, one, (), _down_s(rng), at_s)


def older_and_a_restart_of_all(rng: Random, nodes: Sequence[str], at_s: float) -> DrawnFaults:
    """What the leader has noted has to outlive the leader's process.

    The leader is back before the node: no other member could refuse it.
    """
    # If the one leads, the copy is of another one's disk; whichever it is, the leader is restarted.
    one, power_cuts = rng.choice(list(nodes)), _all_but(rng, nodes, "", 0.3, late=False)
    return _older(rng, one, power_cuts, MET_S, at_s)


def _older(rng: Random, one: str, power_cuts: PowerCuts, down_s: float, at_s: float) -> DrawnFaults:
    age_s = round(rng.uniform(NOTED_S + 0.5, 3.8), 3)
    begin_s = round(at_s - age_s, 3)
    fault = OlderCopy(begin_s, age_s, one, down_s, restarted=False, power_cuts=power_cuts)
    return DrawnFaults((fault,), (begin_s - 1.0, at_s + down_s + SETTLED_S))


def older_start(rng: Random, nodes: Sequence[str], at_s: float) -> DrawnFaults:
    """The copy is of an earlier start of the node, and all other nodes have noted the later one."""
    one, down_s = rng.choice(list(nodes)), _down_s(rng)
    return _older_start(rng, one, _restarts(rng, nodes, one, down_s), down_s, at_s, ())


def older_start_while_one_lags(rng: Random, nodes: Sequence[str], at_s: float) -> DrawnFaults:
    """The last acknowledged writes are not in the copy, but on a disk that is back late."""
    one, late, *lagging = rng.sample(list(nodes), len(nodes))
    down_s = _down_s(rng)
    power_cuts = ((late, down_s + _late_s(rng)),)
    return _older_start(rng, one, power_cuts, down_s, at_s, (_lag(at_s, down_s, lagging, 1.0),))


def _older_start(
    rng: Random, one: str, power_cuts: PowerCuts, down_s: float, at_s: float, lag: Schedule
) -> DrawnFaults:
    age_s = round(RESTART_S + NOTED_S + rng.uniform(1.1, 1.5), 3)
    begin_s = round(at_s - age_s, 3)
    fault = OlderCopy(begin_s, age_s, one, down_s, restarted=True, power_cuts=power_cuts)
    return DrawnFaults((fault, *lag), (begin_s - 1.0, at_s + down_s))


def clone(rng: Random, nodes: Sequence[str], at_s: float) -> DrawnFaults:
    """A second node runs from a copy, a fresh one or an old one; the original power_cuts or not."""
    one, age_s = rng.choice(list(nodes)), rng.choice((0.0, NOTED_S + 1.0))
    others = "" if rng.random() < 0.5 else one
    power_cuts = _restarts(rng, nodes, others, 0.3, late=False)
    fault = Clone(round(at_s - age_s, 3), age_s, one, power_cuts)
    return DrawnFaults((fault,), (at_s - age_s - 1.0, at_s + MET_S + SETTLED_S))


EMPTIED: Sequence[Draw] = (
    emptied, emptied_while_one_lags, emptied_majority, emptied_founder, emptied_newest,
    emptied_in_the_act, emptied_voter,
)  # fmt: skip
COPIED: Sequence[Draw] = (
    foreign, older, older_and_a_restart_of_all, older_start, older_start_while_one_lags,
)  # fmt: skip
ANYWHERE: Sequence[Draw] = (*EMPTIED, foreign)
IN_CALM: Sequence[Draw] = (
    older, older_and_a_restart_of_all, older_start, older_start_while_one_lags, clone, clone, clone,
)  # fmt: skip


def _down_s(rng: Random) -> float:
    return round(rng.choice((0.05, 0.3, 1.0)) * rng.uniform(0.5, 1.5), 3)


def _late_s(rng: Random) -> float:
    """The other nodes have had time for an election before."""
    return round(rng.uniform(2.5, 5.0), 3)


def _lag(at_s: float, down_s: float, nodes: Sequence[str], lag_s: float = 2.0) -> Kill:
    """A minority of the cluster is down from `lag_s` before that moment until `down_s` after it."""
    victims = tuple(nodes[: (len(nodes) + 1) // 2])
    return Kill(round(at_s - lag_s, 3), round(lag_s + down_s, 3), victims, power=True)


def _restarts(
    rng: Random, nodes: Sequence[str], but: str, down_s: float, *, late: bool = True
) -> PowerCuts:
    """None of the others, or all."""
    return () if rng.random() < 0.5 else _all_but(rng, nodes, but, down_s, late=late)


def _all_but(
    rng: Random, nodes: Sequence[str], but: str, down_s: float, *, late: bool
) -> PowerCuts:
    """Each is down for about `down_s`; none for longer unless `late`."""
    most = 3.0 if late else 1.0
    return tuple((name, round(down_s * rng.uniform(0.5, most), 3)) for name in nodes if name != but)


def _prevents(fault: Fault, at_s: float) -> bool:
    changing = isinstance(fault, MemberChange) and at_s - CHANGE_S < fault.at_s < at_s
    return changing or isinstance(fault, BitFlip)


def _overlaps(fault: Fault, begin_s: float, end_s: float) -> bool:
    if isinstance(fault, Compaction):
        return False
    lasts_s = fault.for_s
    if isinstance(fault, TriggeredFault):
        lasts_s += fault.fault.at_s + fault.fault.for_s
    return fault.at_s < end_s and begin_s < fault.at_s + lasts_s

"""What goes wrong, as values: a schedule is drawn before the run, so that it can be read, replayed
and reduced. Knows names and times, not how faults are done.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from jepsen_lite.sim.network import Weather

LEADER = "leader"
"""In the place of a node: whoever leads when the fault begins."""

CAUGHT = "caught"
"""In the place of a node, inside an ambush: the one that walked into it."""


class Trigger(enum.Enum):
    """What an ambush waits for."""

    CANDIDATE = "a node stands for election"
    LEADER = "a node has been elected"
    APPENDED = "a leader has an entry that nobody else has"
    MEMBERSHIP = "a leader has a membership that nobody else has"
    COMMITTED = "a leader knows of a commit that nobody else knows of"


@dataclass(frozen=True, slots=True)
class Crash:
    """The nodes' processes die; each comes back after `for_s`."""

    at_s: float
    for_s: float
    nodes: tuple[str, ...]
    power: bool  # what was not synced may be lost


@dataclass(frozen=True, slots=True)
class Pause:
    """The node stands still (SIGSTOP) and goes on as if nothing had happened."""

    at_s: float
    for_s: float
    node: str


@dataclass(frozen=True, slots=True)
class Isolate:
    """The node and the others don't reach each other; `deaf`, `mute`: only one way is cut."""

    at_s: float
    for_s: float
    node: str
    deaf: bool
    mute: bool
    clients_too: bool


@dataclass(frozen=True, slots=True)
class Split:
    """Two groups that don't reach each other, but for `bridge`, which reaches all (if not "")."""

    at_s: float
    for_s: float
    group: tuple[str, ...]
    bridge: str
    one_way: bool


@dataclass(frozen=True, slots=True)
class SlowLink:
    at_s: float
    for_s: float
    source: str
    target: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class BadWeather:
    at_s: float
    for_s: float
    weather: Weather


@dataclass(frozen=True, slots=True)
class SlowDisk:
    at_s: float
    for_s: float
    nodes: tuple[str, ...]
    delay_s: float


@dataclass(frozen=True, slots=True)
class FullDisk:
    """Every write fails; the node stops, and comes back when there is room."""

    at_s: float
    for_s: float
    node: str


@dataclass(frozen=True, slots=True)
class BrokenLink:
    """The node is told that its link to the other broke, and what it had sent may be lost."""

    at_s: float
    for_s: float
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """An operator moves leadership."""

    at_s: float
    for_s: float
    to: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The node is asked to stop (SIGTERM), and started again."""

    at_s: float
    for_s: float
    node: str


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """An operator adds a new node, or removes one, or both: first the one, then the other."""

    at_s: float
    for_s: float
    remove: str  # "": nobody
    add: bool
    add_first: bool


@dataclass(frozen=True, slots=True)
class Rot:
    """A bit turns over in the log on the node's disk, and its power goes: it reads it when it is
    back. Only one node of a run, and only where the others can go on without it.
    """

    at_s: float
    for_s: float
    node: str


@dataclass(frozen=True, slots=True)
class ClockJump:
    """The node's clock is suddenly further on, as after the machine has slept."""

    at_s: float
    for_s: float
    node: str
    by_s: float


@dataclass(frozen=True, slots=True)
class ClockRate:
    """The node's clock runs fast or slow."""

    at_s: float
    for_s: float
    node: str
    rate: float


@dataclass(frozen=True, slots=True)
class WallClock:
    """Somebody sets the node's clock, forth or back; what measures time by it is deceived."""

    at_s: float
    for_s: float
    node: str
    by_s: float


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody asks the node itself to remove another one: at once, whatever it is about."""

    at_s: float
    for_s: float
    node: str
    remove: str


@dataclass(frozen=True, slots=True)
class Compact:
    """Somebody has the store forget its history."""

    at_s: float
    for_s: float


Trap: TypeAlias = Crash | Pause | Isolate | SlowDisk | Ask


@dataclass(frozen=True, slots=True)
class Ambush:
    """The next `times` nodes that this happens to within `for_s` meet `fault`, soon after.

    Elections are short and rare: what goes wrong only in them is not found by chance alone.
    `fault.at_s` is how soon.
    """

    at_s: float
    for_s: float
    trigger: Trigger
    times: int
    fault: Trap


@dataclass(frozen=True, slots=True)
class Relay:
    """One node after the other is cut off from the other nodes, each until the next one is.

    A step is what to wait for, how soon after it to strike whom it happened to, and what else to
    do then. So two minorities and two histories alternate: what was half done under one leader
    meets what was half done under the next.
    """

    at_s: float
    for_s: float
    steps: tuple[tuple[Trigger, float], ...]
    crash: bool  # else only the network is cut, and its clients still reach it


Fault: TypeAlias = (
    Crash
    | Pause
    | Isolate
    | Split
    | SlowLink
    | BadWeather
    | SlowDisk
    | FullDisk
    | BrokenLink
    | Transfer
    | Stop
    | Reconfigure
    | Rot
    | ClockJump
    | ClockRate
    | WallClock
    | Ask
    | Compact
    | Ambush
    | Relay
)
Schedule: TypeAlias = tuple[Fault, ...]

UNREAD = WallClock.__name__
"""Nothing in raftkv reads that clock: the fault proves that, and nothing about anything else."""

KINDS = (
    Crash, Pause, Isolate, Split, SlowLink, BadWeather, SlowDisk, FullDisk, BrokenLink, Transfer,
    Stop, Reconfigure, Rot, ClockJump, ClockRate, WallClock, Ambush, Relay,
)  # fmt: skip
WEIGHTS = (6, 3, 4, 4, 2, 3, 2, 1, 2, 2, 2, 4, 1, 1, 1, 1, 5, 4)


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
    ] or [(Crash, 1)]
    pause_s = rng.choice((0.5, 1.0, 2.0, 4.0))
    faults: list[Fault] = []
    at_s = 1.0
    while at_s < seconds:
        (kind,) = rng.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])
        faults.append(_draw(rng, kind, nodes, round(at_s, 3)))
        at_s += rng.expovariate(1 / pause_s)
    if not any(map(takes_effect, faults)):
        faults.append(Crash(round(seconds / 2, 3), 1.0, (nodes[0],), power=True))
    return tuple(faults)


def takes_effect(fault: Fault) -> bool:
    """Whether this is certain before the run: it is done to a machine of the beginning, which runs,
    unless another fault has met it before. All others may find nobody, or be refused.
    """
    match fault:
        case Crash() | SlowDisk():
            return LEADER not in fault.nodes
        case Pause() | Isolate() | FullDisk() | Stop() | ClockJump() | ClockRate():
            return fault.node != LEADER
    return False


def draw_compactions(rng: Random, seconds: float) -> Schedule:
    """History is forgotten every now and then."""
    return tuple(Compact(round(rng.uniform(1.0, seconds), 3), 0.0) for _ in range(int(seconds / 2)))


def _draw(rng: Random, kind: type[Fault], nodes: Sequence[str], at_s: float) -> Fault:
    for_s = round(rng.choice((0.05, 0.5, 1.0, 2.0, 4.0, 8.0)) * rng.uniform(0.5, 1.5), 3)
    one = _one(rng, nodes)
    source, target = rng.sample(list(nodes), 2)
    if kind is Crash:
        number = rng.choice((1, 1, 1, 1, 2, len(nodes)))
        victims = tuple(rng.sample(list(nodes), number)) if number > 1 else (one,)
        return Crash(at_s, for_s, victims, power=rng.random() < 0.7)
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
    if kind is BadWeather:
        return BadWeather(at_s, for_s, draw_weather(rng))
    if kind is SlowDisk:
        return SlowDisk(at_s, for_s, (one,), rng.choice((0.01, 0.1, 0.5)))
    if kind is FullDisk:
        return FullDisk(at_s, for_s, one)
    if kind is BrokenLink:
        return BrokenLink(at_s, 0.0, source, target)
    if kind is Stop:
        return Stop(at_s, for_s, one)
    if kind is Reconfigure:
        add = rng.random() < 0.7
        remove = one if not add or rng.random() < 0.7 else ""
        return Reconfigure(at_s, 0.0, remove, add, add_first=rng.random() < 0.5)
    if kind is Rot:
        return Rot(at_s, for_s, rng.choice(list(nodes)))
    if kind is ClockJump:
        return ClockJump(at_s, 0.0, one, rng.choice((0.2, 1.0, 5.0, 60.0)))
    if kind is ClockRate:
        return ClockRate(at_s, for_s, one, rng.choice((0.5, 0.9, 1.1, 2.0)))
    if kind is WallClock:
        return WallClock(at_s, 0.0, one, rng.choice((-60.0, -1.0, 1.0, 60.0)))
    if kind is Ambush:
        return draw_ambush(rng, nodes, at_s)
    if kind is Relay:
        return draw_relay(rng, at_s)
    return Transfer(at_s, 0.0, target)


def draw_ambush(rng: Random, nodes: Sequence[str], at_s: float) -> Ambush:
    trigger = rng.choice((Trigger.LEADER, Trigger.LEADER, *Trigger))
    return Ambush(at_s, rng.uniform(2.0, 15.0), trigger, rng.randint(1, 6), _draw_trap(rng, nodes))


def draw_relay(rng: Random, at_s: float) -> Relay:
    """Now fast, so that nothing is ever finished, now slow enough for some of it."""
    steps = tuple(
        (
            rng.choice((Trigger.LEADER, Trigger.APPENDED, Trigger.MEMBERSHIP, Trigger.COMMITTED)),
            rng.choice((0.0, 0.001, 0.005, 0.05, 0.3, 0.8)) * rng.uniform(0.5, 1.5),
        )
        for _ in range(rng.randint(2, 8))
    )
    return Relay(at_s, rng.uniform(4.0, 12.0), steps, crash=rng.random() < 0.3)


def _draw_trap(rng: Random, nodes: Sequence[str]) -> Trap:
    soon_s = rng.choice((0.0, 0.001, 0.005, 0.02, 0.1)) * rng.uniform(0.5, 1.5)
    for_s = rng.choice((0.01, 0.1, 1.0, 3.0)) * rng.uniform(0.5, 1.5)
    choice = rng.random()
    if choice < 0.3:
        return Crash(soon_s, for_s, (CAUGHT,), power=True)
    if choice < 0.5:
        # Those it needs the votes or the disks of.
        victims = tuple(rng.sample(list(nodes), rng.randint(1, len(nodes) - 1)))
        return Crash(soon_s, for_s, victims, power=True)
    if choice < 0.7:
        ways = rng.choice(((True, True), (True, False), (False, True)))
        return Isolate(soon_s, for_s, CAUGHT, *ways, clients_too=rng.random() < 0.3)
    if choice < 0.8:
        return Pause(soon_s, for_s, CAUGHT)
    return SlowDisk(soon_s, for_s, tuple(nodes), rng.choice((0.1, 0.5)))


def _one(rng: Random, nodes: Sequence[str]) -> str:
    return LEADER if rng.random() < 0.5 else rng.choice(list(nodes))


def draw_weather(rng: Random) -> Weather:
    """A network that loses, doubles and reorders, more or less."""
    return Weather(
        delay_s_mean=rng.choice((0.0005, 0.002, 0.01)),
        loss=rng.choice((0.0, 0.01, 0.1, 0.3)),
        duplication=rng.choice((0.0, 0.01, 0.1, 0.3)),
        straggling=rng.choice((0.0, 0.01, 0.1, 0.3)),
        straggle_s_max=rng.choice((0.01, 0.3, 2.0)),
    )

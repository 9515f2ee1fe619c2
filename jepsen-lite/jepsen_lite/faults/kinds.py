"""What goes wrong, as values, so that a schedule can be read, replayed and reduced. Knows names and
times, not how faults are drawn or done.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from jepsen_lite.sim.net.network import NetworkConditions

LEADER = "leader"
"""In the place of a node: whoever leads when the fault begins."""

TRIGGERING_NODE = "caught"
"""In the place of a node, inside an ambush: the one that walked into it."""


LOG, STATE, SNAPSHOT = "log", "state", "snapshot"
"""Where bits turn over."""
NEWEST = "newest"
"""In the place of a node: the one that was added last."""

PowerCuts: TypeAlias = tuple[tuple[str, float], ...]
"""Other nodes that lose power at the moment when the fault strikes, and how long each is down."""


class Trigger(enum.Enum):
    """What an ambush waits for."""

    CANDIDATE = "a node stands for election"
    VOTED = "a node has voted for another one"
    LEADER = "a node has been elected"
    APPENDED = "a leader has an entry that nobody else has"
    MEMBERSHIP = "a leader has a membership that nobody else has"
    COMMITTED = "a leader knows of a commit that nobody else knows of"


@dataclass(frozen=True, slots=True)
class Kill:
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
class PoorNetwork:
    at_s: float
    for_s: float
    weather: NetworkConditions


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
class MemberChange:
    """An operator adds a new node, or removes one, or both: first the one, then the other."""

    at_s: float
    for_s: float
    remove: str  # "": nobody
    add: bool
    add_first: bool


@dataclass(frozen=True, slots=True)
class BitFlip:
    """A bit turns over.

    In the log on the node's disk: its power goes as well, and it reads the log when it is back. In
    the state: it finds out when it reads the row, scrubs, or is to send a snapshot. Only one node
    of a run, and only where the others can go on without it. In the next snapshot that arrives
    anywhere: nobody is the worse for it.
    """

    at_s: float
    for_s: float
    node: str
    part: str = LOG


@dataclass(frozen=True, slots=True)
class EmptyDisk:
    """The nodes lose power. When they boot again, after `for_s`, their disks are empty.

    Never all members at once. After a majority of them the cluster must serve nothing any more.
    """

    at_s: float
    for_s: float
    nodes: tuple[str, ...]
    restarts: PowerCuts = ()


@dataclass(frozen=True, slots=True)
class OlderCopy:
    """The node's disk is copied. After `for_s` the node loses power, and `down_s` later it boots
    from the copy.

    The fault strikes only if the peers have noted something that the copy lacks: acknowledgements
    of the node, or a later start of it (`restarted`: it restarts right after it was copied).
    """

    at_s: float
    for_s: float
    node: str
    down_s: float
    restarted: bool
    restarts: PowerCuts = ()


@dataclass(frozen=True, slots=True)
class ForeignCopy:
    """The node loses power. When it boots, after `for_s`, its disk is a copy of `source`'s."""

    at_s: float
    for_s: float
    node: str
    source: str
    restarts: PowerCuts = ()


@dataclass(frozen=True, slots=True)
class Clone:
    """The node's disk is copied. After `for_s` a second node of the same id runs from the copy, on
    a machine of its own, until everything is healed.

    A cut of the network takes both or neither: no protocol can detect two clones that no common
    member sees. `restarts` may name the node itself.
    """

    at_s: float
    for_s: float
    node: str
    restarts: PowerCuts = ()


@dataclass(frozen=True, slots=True)
class Stranger:
    """Somebody who is no member calls the node and `says` what can't be (strangers.py)."""

    at_s: float
    for_s: float
    node: str
    says: str


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
class WallClockJump:
    """Somebody sets the node's clock, forth or back; what measures time by it is deceived."""

    at_s: float
    for_s: float
    node: str
    by_s: float


@dataclass(frozen=True, slots=True)
class DirectRemoval:
    """Somebody asks the node itself to remove another one: at once, whatever it is about."""

    at_s: float
    for_s: float
    node: str
    remove: str


@dataclass(frozen=True, slots=True)
class Compaction:
    """Somebody has the store forget its history."""

    at_s: float
    for_s: float


DiskFault: TypeAlias = EmptyDisk | OlderCopy | ForeignCopy | Clone

Triggerable: TypeAlias = Kill | Pause | Isolate | SlowDisk | EmptyDisk | DirectRemoval


@dataclass(frozen=True, slots=True)
class TriggeredFault:
    """The next `times` nodes that this happens to within `for_s` meet `fault`, soon after.

    Elections are short and rare: what goes wrong only in them is not found by chance alone.
    `fault.at_s` is how soon.
    """

    at_s: float
    for_s: float
    trigger: Trigger
    times: int
    fault: Triggerable


@dataclass(frozen=True, slots=True)
class RollingFault:
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
    Kill
    | Pause
    | Isolate
    | Split
    | SlowLink
    | PoorNetwork
    | SlowDisk
    | FullDisk
    | BrokenLink
    | Transfer
    | Stop
    | MemberChange
    | BitFlip
    | EmptyDisk
    | OlderCopy
    | ForeignCopy
    | Clone
    | Stranger
    | ClockJump
    | ClockRate
    | WallClockJump
    | DirectRemoval
    | Compaction
    | TriggeredFault
    | RollingFault
)
Schedule: TypeAlias = tuple[Fault, ...]

UNREAD = WallClockJump.__name__
"""Nothing in raftkv reads that clock: the fault proves that, and nothing about anything else."""


def takes_effect(fault: Fault) -> bool:
    """Whether this is certain before the run: it is done to a machine of the beginning, which runs,
    unless another fault has met it before. All others may find nobody, or be refused.
    """
    match fault:
        case Kill() | SlowDisk():
            return LEADER not in fault.nodes
        case Pause() | Isolate() | FullDisk() | Stop() | ClockJump() | ClockRate():
            return fault.node != LEADER
    return False

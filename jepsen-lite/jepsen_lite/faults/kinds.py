"""Every kind of fault as an immutable value: what is broken, where, when and for how long.

Real runs (`nemesis/`) and the simulator (`sim/injection/`) draw these values before a run and carry
them out during it, so that a schedule can be read, replayed and reduced.

`at_s` is the moment at which a fault begins, in seconds after the start of the faulty phase.
`for_s` is how long it lasts; 0 for a fault that has no duration.

A field `node` holds a node's name, a position in the list of nodes ("0", "1", ...: real runs do not
know the names when they draw), or one of the roles `LEADER`, `TRIGGERING_NODE` and `NEWEST`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

LEADER = "leader"
"""The node that leads when the fault begins."""
TRIGGERING_NODE = "triggering node"
"""Within a `TriggeredFault`: the node to which the trigger happened."""
NEWEST = "newest"
"""The node that was added last."""

LOG, STATE, SNAPSHOT, TRUNCATED_TABLE, MEMORY = "log", "state", "snapshot", "cut", "memory"
"""What a `BitFlip` damages."""

PowerCuts: TypeAlias = tuple[tuple[str, float], ...]
"""Other nodes that lose power when the fault begins, each with the seconds that it stays down."""


@dataclass(frozen=True, slots=True)
class NetworkConditions:
    """What a simulated network does to each datagram, as probabilities, and its delays."""

    delay_s_min: float = 0.0002
    delay_s_mean: float = 0.0005
    loss: float = 0.0
    duplication: float = 0.0
    straggling: float = 0.0
    """The share of datagrams that are delayed so much that later ones overtake them."""
    straggle_s_max: float = 0.3


# ---- processes ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kill:
    """The nodes' processes are killed (SIGKILL) and started again after `for_s`.

    `power`: the machines lose power, so that writes that were not synced may be lost.
    """

    at_s: float
    for_s: float
    nodes: tuple[str, ...]
    power: bool


@dataclass(frozen=True, slots=True)
class Pause:
    """The node's process is stopped (SIGSTOP) and continues after `for_s`."""

    at_s: float
    for_s: float
    node: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The node is asked to stop (SIGTERM) and is started again after `for_s`."""

    at_s: float
    for_s: float
    node: str


# ---- network -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Isolate:
    """The node is partitioned from the other nodes, and from all clients if `clients_too`.

    `deaf`: nothing reaches the node. `mute`: nothing that the node sends arrives.
    """

    at_s: float
    for_s: float
    node: str
    deaf: bool
    mute: bool
    clients_too: bool


@dataclass(frozen=True, slots=True)
class Split:
    """`group` is partitioned from all other nodes, except from `bridge`, which reaches every node.

    `bridge` "": there is none. `one_way`: only what `group` sends is lost.
    """

    at_s: float
    for_s: float
    group: tuple[str, ...]
    bridge: str
    one_way: bool


@dataclass(frozen=True, slots=True)
class Ring:
    """Each node reaches only its neighbours in `nodes`, as many as make a majority with it."""

    at_s: float
    for_s: float
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SlowLink:
    """What `source` sends to `target` takes `delay_s` longer."""

    at_s: float
    for_s: float
    source: str
    target: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class SlowNode:
    """What the node sends (`outgoing`), or what is sent to it (`incoming`), takes longer."""

    at_s: float
    for_s: float
    node: str
    outgoing: bool
    incoming: bool
    delay_s: float


@dataclass(frozen=True, slots=True)
class PoorNetwork:
    """The whole network loses, duplicates and delays as `conditions` say."""

    at_s: float
    for_s: float
    conditions: NetworkConditions


@dataclass(frozen=True, slots=True)
class BrokenLink:
    """The connection from `source` to `target` breaks; frames on their way may be lost."""

    at_s: float
    for_s: float
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Reset:
    """Every connection of the node, to peers and clients, is reset."""

    at_s: float
    for_s: float
    node: str


# ---- disks -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SlowDisk:
    """Every sync of the nodes' disks takes about `delay_s` longer."""

    at_s: float
    for_s: float
    nodes: tuple[str, ...]
    delay_s: float


@dataclass(frozen=True, slots=True)
class FullDisk:
    """Every write fails, so that the node stops; after `for_s` there is room and it is started."""

    at_s: float
    for_s: float
    node: str


@dataclass(frozen=True, slots=True)
class BitFlip:
    """Bits of the node's disk flip.

    LOG: in the log, while the node is down; it reads the log when it starts. STATE: in the tables;
    the node meets the damage when it reads the row, scrubs, or sends a snapshot. SNAPSHOT: in the
    next snapshot that arrives at any node. TRUNCATED_TABLE: a table loses its second half. MEMORY
    (simulated runs): in the node's memory, before any checksum; the comparison of states finds it.
    At most one node of a run, and only if the others can continue without it.
    """

    at_s: float
    for_s: float
    node: str
    part: str = LOG
    seed: float = 0.0
    """Chooses the bits, in real runs."""


@dataclass(frozen=True, slots=True)
class EmptyDisk:
    """The nodes lose power. When they start again, after `for_s`, their disks are empty.

    Never all members at once. If a majority loses its disks, the cluster must serve nothing.
    """

    at_s: float
    for_s: float
    nodes: tuple[str, ...]
    power_cuts: PowerCuts = ()


@dataclass(frozen=True, slots=True)
class OlderCopy:
    """The node's disk is copied. After `for_s` the node loses power; `down_s` later it starts from
    the copy.

    The fault takes effect only if the peers have recorded something that the copy lacks: later
    acknowledgements of the node, or a later start of it (`restarted`: the node restarts right after
    the copy was taken).
    """

    at_s: float
    for_s: float
    node: str
    down_s: float
    restarted: bool
    power_cuts: PowerCuts = ()


@dataclass(frozen=True, slots=True)
class ForeignCopy:
    """The node loses power. After `for_s` it starts from a copy of `source`'s disk."""

    at_s: float
    for_s: float
    node: str
    source: str
    power_cuts: PowerCuts = ()


@dataclass(frozen=True, slots=True)
class Clone:
    """The node's disk is copied. After `for_s` a second node of the same id runs from the copy, on
    a machine of its own, until the end of the faulty phase.

    A partition applies to both nodes or to neither: no protocol can detect two clones if no member
    reaches both. `power_cuts` may name the node itself.
    """

    at_s: float
    for_s: float
    node: str
    power_cuts: PowerCuts = ()


# ---- clocks ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClockJump:
    """The node's monotonic clock jumps ahead, as after the machine has slept."""

    at_s: float
    for_s: float
    node: str
    by_s: float


@dataclass(frozen=True, slots=True)
class ClockRate:
    """The node's monotonic clock runs fast or slow."""

    at_s: float
    for_s: float
    node: str
    rate: float


@dataclass(frozen=True, slots=True)
class WallClockJump:
    """The node's wall clock is set forward or back."""

    at_s: float
    for_s: float
    node: str
    by_s: float


@dataclass(frozen=True, slots=True)
class WallClockRate:
    """The node's wall clock runs fast or slow."""

    at_s: float
    for_s: float
    node: str
    rate: float


# ---- operators and strangers -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Transfer:
    """An operator transfers leadership to a node."""

    at_s: float
    for_s: float
    to: str


@dataclass(frozen=True, slots=True)
class MemberChange:
    """An operator removes a node (`remove`, "": none), adds a new one, or does both in turn."""

    at_s: float
    for_s: float
    remove: str
    add: bool
    add_first: bool


@dataclass(frozen=True, slots=True)
class DirectRemoval:
    """The node itself is asked to remove another one, whatever it is doing.

    `force`: it does not count first how many members acknowledge.
    """

    at_s: float
    for_s: float
    node: str
    remove: str
    force: bool = False


@dataclass(frozen=True, slots=True)
class AddressChange:
    """The leader is asked to give the node other ports in the membership; its machine stays."""

    at_s: float
    for_s: float
    node: str


@dataclass(frozen=True, slots=True)
class LearnerRemoval:
    """An operator adds a node as a learner, and removes it once it has started."""

    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class Compaction:
    """The store's history is compacted."""

    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class SnapshotLag:
    """The node is down until the others have compacted their logs, so that it needs a snapshot.

    `compactions`: how much is written meanwhile, in multiples of the log size that is compacted.
    """

    at_s: float
    for_s: float
    node: str
    compactions: float


@dataclass(frozen=True, slots=True)
class Stranger:
    """A process that is no member calls the node's peer port and sends the message `says`.

    The messages are in `sim/injection/strangers.py`.
    """

    at_s: float
    for_s: float
    node: str
    says: str


DiskFault: TypeAlias = EmptyDisk | OlderCopy | ForeignCopy | Clone

# ---- faults that begin when a node reaches a state ---------------------------------------


class Trigger(enum.Enum):
    """The event that a `TriggeredFault` or a step of a `RollingFault` waits for."""

    CANDIDATE = "a node becomes a candidate"
    VOTED = "a node has voted for another one"
    LEADER = "a node has been elected"
    APPENDED = "a leader has an entry that no other node has"
    MEMBERSHIP = "a leader has a configuration that no other node has"
    COMMITTED = "a leader knows of a commit that no other node knows of"
    INSTALLING = "a node begins to install a snapshot"


Triggerable: TypeAlias = Kill | Pause | Isolate | SlowDisk | EmptyDisk | DirectRemoval


@dataclass(frozen=True, slots=True)
class TriggeredFault:
    """`fault` begins each of the next `times` times that `trigger` happens within `for_s`.

    Elections are short and rare: a fault at a random moment hardly ever meets one. `fault.at_s` is
    the delay from the trigger to the fault.
    """

    at_s: float
    for_s: float
    trigger: Trigger
    times: int
    fault: Triggerable


@dataclass(frozen=True, slots=True)
class RollingFault:
    """One node after another is isolated from the other nodes; the previous one is healed then.

    Each step is a trigger and the delay from it to the isolation of its node. Two minorities and
    two histories alternate, so that work left unfinished under one leader meets work left
    unfinished under the next.
    """

    at_s: float
    for_s: float
    steps: tuple[tuple[Trigger, float], ...]
    crash: bool
    """The node is killed. False: it is partitioned from the other nodes, not from its clients."""


Fault: TypeAlias = (
    Kill
    | Pause
    | Stop
    | Isolate
    | Split
    | Ring
    | SlowLink
    | SlowNode
    | PoorNetwork
    | BrokenLink
    | Reset
    | SlowDisk
    | FullDisk
    | BitFlip
    | EmptyDisk
    | OlderCopy
    | ForeignCopy
    | Clone
    | ClockJump
    | ClockRate
    | WallClockJump
    | WallClockRate
    | Transfer
    | MemberChange
    | DirectRemoval
    | AddressChange
    | LearnerRemoval
    | Compaction
    | SnapshotLag
    | Stranger
    | TriggeredFault
    | RollingFault
)
Schedule: TypeAlias = tuple[Fault, ...]

UNREAD = WallClockJump.__name__
"""No raftkv code reads the wall clock: this fault alone proves nothing else."""


def takes_effect(fault: Fault) -> bool:
    """Whether a simulated fault is certain to take effect: it is aimed at a founding node, which
    runs unless another fault stopped it before. All others may find no target, or be refused.
    """
    match fault:
        case Kill() | SlowDisk():
            return LEADER not in fault.nodes
        case Pause() | Isolate() | FullDisk() | Stop() | ClockJump() | ClockRate():
            return fault.node != LEADER
    return False

"""The values that a Raft core and its driver exchange: configuration, start state and Ready."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from raftkv.raft.entry import Entry, HardState, Membership
from raftkv.raft.log import Log
from raftkv.raft.messages import InstallSnapshot, Message


class RaftRole(enum.IntEnum):
    """The numbers are those of the wire."""

    FOLLOWER = 0
    PRE_CANDIDATE = 1
    CANDIDATE = 2
    LEADER = 3


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """Times in ticks; the driver decides how long a tick is.

    An election timeout is drawn for each role from election_ticks_min .. election_ticks_max. With
    `leader_lease` a node votes for no candidate within election_ticks_min of a message from any
    leader, or of its own start; the leader lease relies on that (dissertation 6.4.1).
    """

    heartbeat_ticks: int = 2
    election_ticks_min: int = 10
    election_ticks_max: int = 20
    append_bytes_max: int = 1 << 20
    apply_bytes_max: int = 1 << 20
    in_flight_messages_max: int = 64
    in_flight_bytes_max: int = 16 << 20
    leader_lease: bool = False


@dataclass(frozen=True, slots=True)
class PersistedState:
    """What a core starts from. `membership` is that of the state machine at `applied_index`; later
    memberships are read from the log.
    """

    log: Log
    hard_state: HardState
    applied_index: int
    membership: Membership


@dataclass(frozen=True, slots=True)
class Persist:
    """To be made durable, then reported with `Raft.persisted()`."""

    hard_state: HardState | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class ConfirmedRead:
    """The read of this context is linearizable once `read_index` is applied."""

    context: int
    read_index: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The work that the core has for its driver now (as `Ready` in etcd/raft).

    `persist` is None while an earlier one is under way. `committed` is handed out again until
    it is reported with `Raft.applied()`. `snapshot` has arrived from the leader and must be
    installed, then reported with `Raft.snapshot_installed()`. `snapshots_wanted` are peers whose
    entries are compacted away.
    """

    persist: Persist | None
    messages: tuple[Message, ...]
    committed: tuple[Entry, ...]
    reads: tuple[ConfirmedRead, ...]
    snapshot: InstallSnapshot | None
    snapshots_wanted: tuple[int, ...]

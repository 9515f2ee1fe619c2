"""The only way out of the core: what its driver has to do. Values, no logic."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from raftkv.raft.entry import Entry, HardState
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

    An election timeout is drawn anew each time from election_ticks_min .. election_ticks_max.
    With `leader_lease` a node votes for nobody within election_ticks_min of having heard a leader,
    whoever that was and whatever became of it, nor of its own start: leaders may rely on it.
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
    """What there is to do now.

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

"""One simulated node: a core, its disk, and the driver's duties between them."""

from __future__ import annotations

import enum
from collections.abc import Callable
from random import Random

from raftkv.raft.entry import Membership
from raftkv.raft.log import Log
from raftkv.raft.messages import InstallSnapshot
from raftkv.raft.raft import Raft
from raftkv.raft.ready import Persist, PersistedState, RaftConfig, Ready
from tests.raft.disk import CODEC, FOUNDED, LogDisk, State


class Installed(enum.Enum):
    """How far a snapshot's installation got before the crash."""

    NOTHING = "nothing"
    STATE = "state"  # the directories were swapped, the log was not reset yet
    EVERYTHING = "everything"


class SimulatedNode:
    """`disk` and `state` outlive a crash; `raft` is rebuilt from them and from nothing else."""

    def __init__(
        self,
        node_id: int,
        config: RaftConfig,
        membership: Membership,
        rng_for: Callable[[int, int], Random],
        founded: int = FOUNDED,
    ) -> None:
        self.node_id = node_id
        self.disk = LogDisk(founded)
        self.state = State(membership, founded)
        self.incarnation = 0
        self.writing: Persist | None = None
        self.installing: InstallSnapshot | None = None
        self.slow_disk = False
        self.clients_everywhere = True  # each commit is awaited at every node
        self.received: dict[int, State] = {}
        self._config = config
        self._rng_for = rng_for
        self._raft: Raft | None = None
        self.start()

    @property
    def up(self) -> bool:
        return self._raft is not None

    @property
    def raft(self) -> Raft:
        assert self._raft is not None, f"node {self.node_id} is down"
        return self._raft

    def start(self) -> None:
        disk, state = self.disk, self.state
        index = state.applied_index
        if index > disk.compacted_index and disk.term(index) != state.applied_term:
            # The crash hit between a snapshot's state and its log: finish the installation.
            disk.reset(state.applied_index, state.applied_term, state.applied_hash)
        self.incarnation += 1
        self._raft = Raft(
            self.node_id,
            self._config,
            CODEC,
            self._rng_for(self.node_id, self.incarnation),
            PersistedState(
                Log(disk.compacted_index, disk.compacted_term, disk.entries, disk.compacted_hash),
                disk.hard_state,
                state.applied_index,
                state.membership,
            ),
        )

    def crash(
        self,
        *,
        write_lands: bool = False,
        installed: Installed = Installed.NOTHING,
        state_keeps_index: int = 0,
    ) -> None:
        """Stop at once. A write that was under way may or may not be on disk."""
        if write_lands and self.writing is not None:
            self.disk.append(self.writing.hard_state, self.writing.entries)
        if self.installing is not None and installed is not Installed.NOTHING:
            self._take_over_state(self.installing)
            if installed is Installed.EVERYTHING:
                self._reset_log(self.installing)
        self.state.lose_unsynced(state_keeps_index)
        self.writing = self.installing = None
        self.received.clear()
        self._raft = None

    def take_ready(self) -> Ready:
        """One round of the driver, as far as it stays on this node."""
        if self.clients_everywhere:
            for peer in self.raft.progress:
                self.raft.want_commit(peer)
        ready = self.raft.ready()
        if ready.persist is not None:
            assert self.writing is None, "two writes at once"
            self.writing = ready.persist
        if ready.committed:
            self.state.apply(ready.committed)
            self.raft.applied(self.state.applied_index)
        if ready.snapshot is not None:
            self.installing = ready.snapshot
        return ready

    def finish_write(self) -> None:
        assert self.writing is not None
        write, self.writing = self.writing, None
        self.disk.append(write.hard_state, write.entries)
        self.raft.persisted()

    def finish_install(self) -> None:
        assert self.installing is not None
        message, self.installing = self.installing, None
        self._take_over_state(message)
        self._reset_log(message)
        self.raft.snapshot_installed()

    def refuse_install(self) -> None:
        self.installing = None
        self.raft.snapshot_refused()

    def compact(self, index: int) -> None:
        """As the driver does it: the state is synced first, then the log forgets."""
        self.state.sync()
        self.disk.compact(index, self.raft.log.hash(index) or 0)
        self.raft.compact(index)

    def _take_over_state(self, message: InstallSnapshot) -> None:
        self.state = self.received[message.snapshot.last_included_index].copy()

    def _reset_log(self, message: InstallSnapshot) -> None:
        point = message.snapshot
        self.disk.reset(
            point.last_included_index, point.last_included_term, point.last_included_hash
        )

"""Planted bugs in reads that claim to be current."""

from __future__ import annotations

import asyncio

from jepsen_lite.mutants.mutant import Patch, mutant
from jepsen_lite.sim.process import Process
from raftkv.node.clocks import LeaderLease
from raftkv.node.read_barriers import ReadBarriers
from raftkv.raft.raft import Raft


@mutant("deposed leader serves a read", "relays", caught_by="serves a linearizable read at entry")
def leader_skips_the_quorum_round() -> list[Patch]:
    """Consul #54, Xraft #40: a node that was elected once answers reads without a quorum round that
    confirms that it still leads.
    """

    def start(self: Raft) -> None:
        if self._rounds.waiting and self.committed_in_term:
            self._rounds.start(self.commit_index)
            for confirmed in self._rounds.confirm(self._rounds.number):
                for request in confirmed.requests:
                    self._answer_read(request, confirmed.read_index)

    return [(Raft, "_start_read_round", start)]


@mutant(
    "reads before the first commit of the new term",
    "fresh-leaders",
    caught_by="serves a linearizable read at entry",
)
def reads_before_the_first_commit() -> list[Patch]:
    """redisraft #22: a new leader reads at its own commit index, which it has from its time as a
    follower; its predecessor had committed more.
    """

    def start(self: Raft) -> None:
        if self._rounds.waiting:
            read_round = self._rounds.start(self.commit_index)
            self._replicator.broadcast_heartbeat(self.commit_index, read_round)
            self._confirm_reads()

    return [(Raft, "_start_read_round", start)]


@mutant(
    "reads before the log is replayed",
    "power-cuts",
    caught_by="serves a linearizable read at entry",
    seeds=range(1, 21),
)
def reads_before_replay() -> list[Patch]:
    """etcd #3879: a read waits until its index is confirmed, but not until that is applied here."""
    opened = ReadBarriers.open

    def open_at_once(self: ReadBarriers, applied_index: int) -> None:
        opened(self, 1 << 62)

    return [(ReadBarriers, "open", open_at_once)]


@mutant(
    "lease read trusts a clock that jumps",
    "set-clocks",
    caught_by="serves a linearizable read at entry",
)
def lease_by_the_wall_clock() -> list[Patch]:
    """Consul #54: how long the leader's lease has left is measured by the clock on the wall. Set
    back, it makes the lease outlive the leader.
    """

    def now_s() -> float:
        process = asyncio.get_running_loop()
        assert isinstance(process, Process)
        return process.wall_s()

    confirm = LeaderLease.confirm

    def confirm_now(self: LeaderLease, asked_at_s: float | None) -> None:
        before = self._confirmed_s
        self._confirmed_s = None
        confirm(self, asked_at_s)
        self._confirmed_s = before if self._confirmed_s is None else now_s()

    def left_s(self: LeaderLease, _: float) -> float:
        return 0.0 if self._confirmed_s is None else self._confirmed_s + self._length_s - now_s()

    return [(LeaderLease, "confirm", confirm_now), (LeaderLease, "_left_s", left_s)]


MUTANTS = (
    leader_skips_the_quorum_round,
    reads_before_the_first_commit,
    reads_before_replay,
    lease_by_the_wall_clock,
)

"""Planted bugs in what counts as replicated and committed."""

from __future__ import annotations

from jepsen_lite.mutants.mutant import Patch, mutant
from raftkv.errors import DeadlineExceeded, RaftkvError
from raftkv.node.driver import Driver
from raftkv.node.proposals import PendingProposal, PendingProposals
from raftkv.raft import quorum
from raftkv.raft.progress import Progress
from raftkv.raft.raft import Raft
from raftkv.raft.ready import Persist


@mutant(
    "commits entries of an older term by counting (figure 8)",
    "relays",
    caught_by="of another term by counting|lacks it and could be elected",
)
def older_terms_by_counting() -> list[Patch]:
    """PySyncObj #169, nats #7955: a new leader takes its predecessor's entry as committed once a
    majority has it. A third log of a higher term can still overwrite it.
    """

    def advance(self: Raft) -> None:
        index = quorum.agreed(self.membership, self._replicator.match_index_of)
        if index > self.commit_index:
            self.commit_index = index

    return [(Raft, "_advance_commit", advance)]


@mutant("commit index goes back", "relays", "anything", caught_by="commit went back")
def commit_follows_the_message() -> list[Patch]:
    """PySyncObj #166: a follower takes the leader's commit index as it comes, also from a leader
    that does not know yet how far its predecessor was.
    """

    def commit_to(self: Raft, index: int) -> None:
        if self._installing is None and index <= self.log.last_index:
            self.commit_index = max(index, self.last_applied)

    return [(Raft, "_commit_to", commit_to)]


@mutant(
    "match index goes back",
    "elections",
    caught_by="the match index of .* went back",
    seeds=range(1, 4),
)
def match_follows_the_message() -> list[Patch]:
    """PySyncObj #167, raftos #25: an acknowledgement that was overtaken sets the peer back."""
    acknowledge = Progress.acknowledge

    def acknowledged(self: Progress, match_index: int) -> bool:
        progress = acknowledge(self, match_index)
        self.match_index = match_index
        return progress

    return [(Progress, "acknowledge", acknowledged)]


@mutant(
    "acknowledged before fsync",
    "power-cuts",
    caught_by="not on its disk|but its disk ends at|have it on disk|on its disk, where",
)
def acknowledged_before_fsync() -> list[Patch]:
    """etcd #14370: an entry counts as persisted when its write begins."""

    async def persist(self: Driver, persist: Persist) -> None:
        self._raft.persisted()
        self._run.wake()
        await self._replica.log_disk.append(persist.hard_state, persist.entries)

    return [(Driver, "_persist", persist)]


@mutant(
    "timed-out proposal reported as failed, applied later",
    "anything",
    "relays",
    caught_by="(register|set|counter): .* observed that (it|adding it) failed",
)
def late_is_failed() -> list[Patch]:
    """CockroachDB #10602: the answer says that the write has not happened, because it has not
    happened yet.
    """

    def late(self: PendingProposals, waiting: PendingProposal) -> RaftkvError:
        return DeadlineExceeded("the write was not applied in time")

    return [(PendingProposals, "_late", late)]


MUTANTS = (
    older_terms_by_counting,
    commit_follows_the_message,
    match_follows_the_message,
    acknowledged_before_fsync,
    late_is_failed,
)

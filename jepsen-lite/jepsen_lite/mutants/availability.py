"""Planted bugs that break no promise about data: they cost availability or memory, and only bounds
that are judged while faults last notice them.
"""

from __future__ import annotations

from collections.abc import Iterable

from jepsen_lite.mutants.mutant import Patch, mutant
from raftkv.client.connection.throttle import CircuitBreaker
from raftkv.errors import RaftkvError
from raftkv.node.proposal_queue import ProposalQueue
from raftkv.peer.ports import Submission
from raftkv.raft.raft import Raft
from raftkv.raft.ready import RaftRole

BACK_OFF_TICKS = 160
COOL_DOWN_S = 60.0


@mutant(
    "leader without a majority goes on leading",
    "relays",
    caught_by="no message from a majority .* check quorum has failed",
)
def leader_never_steps_down() -> list[Patch]:
    """A leader that is cut off keeps its role until a later term reaches it. Its clients wait for a
    majority that does not answer, and do not look for another leader.
    """

    def always(self: Raft) -> bool:
        self._replicator.take_active()
        return True

    return [(Raft, "_quorum_is_active", always)]


@mutant(
    "leader without a majority goes on leading",
    "anything",
    caught_by="no message from a majority .* check quorum has failed",
    # A cut-off leader has to be asked for a transfer within its last second.
    seeds=range(10, 11),
)
def transfers_postpone_check_quorum() -> list[Patch]:
    """raftkv before this check was there, as in etcd: the ticks of a transfer are those of check
    quorum, so an operator who tries a transfer again and again keeps a dead leader.
    """
    transfer = Raft.transfer_leadership

    def transfer_and_begin_anew(self: Raft, to: int) -> bool:
        begun = transfer(self, to)
        if begun:
            self._election_elapsed = 0
        return begun

    return [(Raft, "transfer_leadership", transfer_and_begin_anew)]


@mutant(
    "candidate gives up",
    "elections",
    "power-cuts",
    caught_by="are a majority, healthy and connected, and no node has led",
)
def candidate_backs_off() -> list[Patch]:
    """After a round that it did not win a candidate waits for 8 s, not for another election
    timeout.
    """
    reset = Raft._reset_role

    def reset_role(self: Raft, role: RaftRole) -> None:
        before = getattr(self, "role", RaftRole.FOLLOWER)
        reset(self, role)
        stood = before in (RaftRole.PRE_CANDIDATE, RaftRole.CANDIDATE)
        if stood and role is not RaftRole.LEADER and role is not RaftRole.CANDIDATE:
            self._election_timeout = BACK_OFF_TICKS

    return [(Raft, "_reset_role", reset_role)]


@mutant(
    "client never comes back to a node that failed",
    "slow-answers",
    caught_by="reaches a healthy cluster .* none of its operations has succeeded",
)
def breaker_stays_open() -> list[Patch]:
    """A circuit breaker that has opened lets nothing through for a minute, so a short outage of all
    nodes is a long one for the client.
    """
    failed = CircuitBreaker.failed

    def fail(self: CircuitBreaker, now: float) -> None:
        failed(self, now)
        self.retry_at = now + COOL_DOWN_S

    return [(CircuitBreaker, "failed", fail)]


@mutant(
    "queue entry is never removed",
    "load",
    caught_by="queues: nothing has been under way .* elements in ProposalQueue._taken",
)
def taken_numbers_are_kept() -> list[Patch]:
    """A leader remembers the number of each batch that it has taken, also after its node has the
    result: memory that only a new term gives back.
    """
    add = ProposalQueue.add

    def add_and_keep(
        self: ProposalQueue, sender: int, submissions: Iterable[Submission], settled: int
    ) -> list[tuple[int, RaftkvError]]:
        return add(self, sender, submissions, 0)

    return [(ProposalQueue, "add", add_and_keep)]


MUTANTS = (
    leader_never_steps_down,
    transfers_postpone_check_quorum,
    candidate_backs_off,
    breaker_stays_open,
    taken_numbers_are_kept,
)

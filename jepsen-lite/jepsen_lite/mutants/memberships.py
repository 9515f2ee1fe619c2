"""Planted bugs in changes of membership."""

from __future__ import annotations

from collections.abc import Set

from jepsen_lite.mutants.mutant import Patch, mutant
from raftkv.errors import MembershipRefused
from raftkv.raft import quorum
from raftkv.raft.entry import Membership
from raftkv.raft.membership import enter, leave
from raftkv.raft.raft import Raft


@mutant(
    "membership change before a commit in the current term",
    "memberships",
    caught_by="lacks it and could be elected",
    seeds=range(1, 21),
)
def change_before_the_first_commit() -> list[Patch]:
    """copycat #23, and the dissertation's own: one voter at a time without a joint membership,
    which is safe only once the leader has committed in its term; this one does not wait for that.
    """

    def propose(self: Raft, target: Membership, *, force: bool = False) -> int:
        if not self.leads or self.transferee:
            raise MembershipRefused("only the leader changes the membership")
        joint = enter(self.membership, target)
        self._propose_membership_entry(leave(joint) if joint.joint else joint)
        return self.log.last_index

    return [(Raft, "propose_membership", propose)]


@mutant(
    "new leader ignores an uncommitted membership",
    "memberships",
    caught_by="goes by the membership .* but the last one in its log is",
)
def uncommitted_membership_ignored() -> list[Patch]:
    """NuRaft PR 67: a node that takes over counts by the last membership that it knows committed,
    while a newer one is in its log.
    """
    become_leader = Raft._become_leader

    def become(self: Raft) -> None:
        self._memberships._truncate(self.commit_index + 1)
        become_leader(self)

    return [(Raft, "_become_leader", become)]


@mutant(
    "leader that is no voter counts itself",
    "leaving-leaders",
    caught_by="as committed, but only .* have it on disk",
)
def no_voter_counts_itself() -> list[Patch]:
    """RedisLabs/raft PR 13: a leader that is being removed counts its own log towards the majority
    of those that stay.
    """

    def advance(self: Raft) -> None:
        index = _counted(self)
        if index <= self.commit_index or self.log.term(index) != self.current_term:
            return
        self.commit_index = index
        if self.membership_committed and self.membership.joint:
            self._propose_membership_entry(leave(self.membership))
        if self.membership_committed and self.node_id not in self.membership.voters:
            self._replicator.broadcast_heartbeat(self.commit_index, read_round=0)
            self._become_follower(self.current_term, leader_id=0)

    return [(Raft, "_advance_commit", advance)]


def _counted(self: Raft) -> int:
    """`quorum.agreed`, but the leader is always one of those that are counted."""
    agreed: list[int] = []
    for voters in quorum.configurations(self.membership):
        members = voters | {self.node_id}
        reached = sorted(map(self._replicator.match_index_of, members), reverse=True)
        agreed.append(reached[quorum.majority(voters) - 1])
    return min(agreed)


@mutant(
    "membership change that costs the majority",
    "forgotten-nodes",
    caught_by="that costs the majority",
)
def only_the_old_voters_are_counted() -> list[Patch]:
    """etcd's health checks were long no more than this: two of three voters acknowledge, so that
    one of them may be removed, which leaves the other with the dead one.
    """
    has_majorities = quorum.has_majorities

    def of_the_old(membership: Membership, acknowledging: Set[int]) -> bool:
        old = membership.voters_outgoing or membership.voters
        return has_majorities(Membership(old), acknowledging)

    return [(quorum, "has_majorities", of_the_old)]


@mutant(
    "membership change that costs the majority",
    "forgotten-nodes",
    caught_by="that costs the majority",
)
def first_acknowledgement_counts_for_ever() -> list[Patch]:
    """A member counts as alive from its first acknowledgement of a term on, whatever has become of
    it since.
    """

    def acknowledging(self: Raft, after_tick: int) -> frozenset[int]:
        return self._replicator.acknowledging(-1)

    return [(Raft, "acknowledging", acknowledging)]


MUTANTS = (
    change_before_the_first_commit,
    uncommitted_membership_ignored,
    no_voter_counts_itself,
    only_the_old_voters_are_counted,
    first_acknowledgement_counts_for_ever,
)

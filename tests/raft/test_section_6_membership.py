"""Raft section 6 (and dissertation 4.2, 4.3): membership, learners, joint consensus."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftkv.errors import MembershipRefused
from raftkv.raft.entry import EntryKind, Membership
from raftkv.raft.membership import enter, leave
from raftkv.raft.messages import AppendEntries, AppendEntriesReply, RequestVote, RequestVoteReply
from raftkv.raft.ready import RaftRole
from tests.raft.cluster import Cluster, members


def change(cluster: Cluster, leader: int, target: Membership) -> None:
    """New members are voters at once here, and do not acknowledge yet: the change is forced."""
    for added in sorted(target.members - cluster.nodes.keys()):
        cluster.add_node(added)
    cluster[leader].propose_membership(target, force=True)
    cluster.observe(leader)


def appends_from(sender: int, *, after: int):
    """Messages that bring entries with an index above `after`."""
    return lambda m: (
        isinstance(m, AppendEntries)
        and m.sender == sender
        and m.prev_log_index + len(m.entries) > after
    )


def joint_on_all(voters: list[int], target: Membership) -> Cluster:
    """Leader 1 has committed the joint membership; the one that leaves it is on its disk alone."""
    cluster = Cluster(voters)
    cluster.elect(1)
    change(cluster, 1, target)
    joint_index = cluster[1].log.last_index
    cluster.settle(hold=appends_from(1, after=joint_index))
    assert cluster[1].commit_index == joint_index
    assert cluster[1].log.last_index == joint_index + 1
    cluster.drop(lambda m: True)
    return cluster


# Learners.


def test_a_learner_is_brought_up_to_date() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    change(cluster, 1, members([1, 2, 3], [4]))
    cluster.settle()
    assert cluster.commands(4) == [b"x"]
    assert cluster[4].membership.learners == {4}


def test_a_learner_is_not_counted_when_committing() -> None:
    cluster = Cluster(3, learners=[4, 5])
    cluster.elect(1)
    cluster.crash(2, 3)
    cluster.propose(1, b"x")
    cluster.settle()
    assert cluster[1].progress[4].match_index == 2
    assert cluster[1].commit_index == 1


def test_the_vote_of_a_learner_does_not_count() -> None:
    cluster = Cluster(3, learners=[4, 5])
    cluster.campaign(1)
    cluster.settle(hold=lambda m: isinstance(m, RequestVote) and not m.pre_vote)
    for learner in (4, 5):
        cluster.step(RequestVoteReply(learner, 1, 1, granted=True))
    assert cluster[1].role is RaftRole.CANDIDATE


def test_a_learner_does_not_count_for_check_quorum() -> None:
    cluster = Cluster(3, learners=[4, 5])
    cluster.elect(1)
    cluster.crash(2, 3)
    for _ in range(2 * cluster.config.election_ticks_min):
        cluster.tick(1)
        cluster.settle()
    assert not cluster[1].leads


def test_a_promoted_learner_counts() -> None:
    cluster = Cluster(1, learners=[2])
    cluster.elect(1)
    change(cluster, 1, members([1, 2]))
    cluster.settle()
    cluster.crash(2)
    cluster.propose(1, b"x")
    cluster.settle()
    assert cluster.commands(1) == []
    cluster.restart(2)
    cluster.beat(1)
    cluster.beat(1)
    assert cluster.commands(2) == [b"x"]


# Joint consensus.


def test_a_change_of_voters_passes_through_a_joint_membership_and_leaves_it() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    change(cluster, 1, members([1, 4, 5]))
    assert cluster[1].membership.voters_outgoing == {1, 2, 3}
    cluster.settle()
    assert cluster[1].membership.voters == {1, 4, 5}
    assert not cluster[1].membership.joint
    assert cluster[1].membership.removed == {2, 3}
    kinds = [entry.kind for entry in cluster.nodes[5].state.history]
    assert kinds.count(EntryKind.MEMBERSHIP) == 2


@pytest.mark.parametrize("majority_that_is_missing", [(2, 3), (4, 5)])
def test_a_joint_membership_commits_only_with_both_majorities(majority_that_is_missing) -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for added in (4, 5):
        cluster.add_node(added)
    cluster.crash(*majority_that_is_missing)
    cluster[1].propose_membership(members([1, 4, 5]), force=True)
    cluster.settle()
    cluster.propose(1, b"x")
    cluster.settle()
    assert cluster[1].commit_index == 1


@pytest.mark.parametrize("majority_that_is_missing", [(2, 3), (4, 5)])
def test_in_a_joint_membership_an_election_needs_both_majorities(majority_that_is_missing) -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    change(cluster, 1, members([1, 4, 5]))
    cluster.settle(hold=lambda m: isinstance(m, AppendEntriesReply))
    assert cluster[2].membership.joint
    cluster.drop(lambda m: True)
    cluster.crash(1, *majority_that_is_missing)
    cluster.restart(1)
    cluster.forget_leader(*[node.node_id for node in cluster.up])
    cluster.campaign(1)
    cluster.settle()
    assert not cluster[1].leads
    cluster.restart(*majority_that_is_missing)
    cluster.campaign(1)
    cluster.settle()
    assert cluster[1].leads


def test_a_leader_outside_the_new_membership_does_not_count_itself_and_steps_down() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    change(cluster, 1, members([2, 3]))
    cluster.settle(hold=lambda m: isinstance(m, AppendEntries) and m.recipient == 3)
    # 1 and 2 are a majority of 1, 2, 3, but 2 alone is none of 2, 3.
    assert cluster[1].leads
    assert cluster[1].commit_index == 1
    cluster.settle()
    assert cluster[1].role is RaftRole.FOLLOWER
    assert not cluster[1].electable
    cluster.elect(2)
    cluster.propose(2, b"x")
    cluster.settle()
    assert cluster.commands(3) == [b"x"]


def test_a_leader_that_becomes_a_learner_steps_down() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    change(cluster, 1, members([2, 3], [1]))
    cluster.settle()
    assert cluster[1].role is RaftRole.FOLLOWER
    cluster.elect(2)
    cluster.propose(2, b"x")
    cluster.settle()
    assert cluster.commands(1) == [b"x"]


def test_a_new_leader_finishes_a_joint_membership_that_was_not_committed() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.add_node(4)
    cluster[1].propose_membership(members([1, 2, 4]))
    cluster.settle(hold=lambda m: isinstance(m, AppendEntriesReply))
    assert cluster[2].membership.joint
    assert cluster[2].commit_index == 1
    cluster.drop(lambda m: True)
    cluster.crash(1)
    cluster.elect(2)
    assert cluster[2].membership.voters == {1, 2, 4}
    assert not cluster[2].membership.joint
    assert cluster[4].membership.voters == {1, 2, 4}


def test_a_new_leader_finishes_a_joint_membership_that_was_committed() -> None:
    cluster = joint_on_all([1, 2, 3], members([2, 3, 4]))
    cluster.crash(1)
    assert cluster[2].membership.joint
    cluster.elect(2)
    assert cluster[2].membership.voters == {2, 3, 4}
    assert not cluster[2].membership.joint


def test_a_membership_is_in_force_as_soon_as_it_is_in_the_log_even_over_a_restart() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.add_node(4)
    cluster[1].propose_membership(members([1, 2, 3, 4]))
    cluster.settle(hold=lambda m: m.recipient == 4 or m.sender != 1)
    assert cluster[2].membership.joint
    cluster.crash(2)
    cluster.restart(2)
    assert cluster[2].commit_index <= 1
    assert cluster[2].membership.voters == {1, 2, 3, 4}


def test_a_membership_that_is_cut_off_gives_way_to_the_one_before() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.isolate(1)
    cluster.add_node(4)
    cluster[1].propose_membership(members([1, 2, 3, 4]))
    cluster.settle()
    assert cluster[1].membership.joint
    cluster.elect(2)
    cluster.heal()
    cluster.beat(2)
    assert cluster[1].membership == members([1, 2, 3])


# What keeps a change from getting lost on its way.


def test_a_voter_whose_removal_is_not_committed_can_still_be_elected_to_commit_it() -> None:
    """The trace: 1, 2 shrink to 2. Leader 1 alone has the last step on disk, and crashes.

    2 needs the vote of 1, whose log is longer; if 1 did not campaign, no node could lead again.
    """
    cluster = joint_on_all([1, 2], members([2]))
    cluster.crash(1)
    cluster.restart(1)
    assert cluster[1].membership.voters == {2}
    cluster.forget_leader(2)
    for _ in range(3):
        cluster.campaign(2)
        cluster.settle()
        assert not cluster[2].leads
    cluster.forget_leader(2)
    cluster.campaign(1)
    cluster.settle()
    assert cluster[1].role is RaftRole.FOLLOWER  # it has led, committed its removal, and gone
    assert not cluster[1].electable
    cluster.elect(2)
    assert cluster[2].membership.voters == {2}


def test_the_own_vote_of_a_node_outside_the_voters_does_not_count() -> None:
    cluster = joint_on_all([1, 2], members([2]))
    cluster.crash(1)
    cluster.restart(1)
    cluster.crash(2)
    for _ in range(3):
        cluster.campaign(1)
        cluster.settle()
    assert not cluster[1].leads


def test_a_node_with_its_committed_removal_does_not_campaign() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    change(cluster, 1, members([1, 2]))
    cluster.settle()
    assert 3 in cluster[3].membership.removed
    assert cluster[3].membership_committed
    cluster.tick(3, 5 * cluster.config.election_ticks_max)
    assert cluster[3].role is RaftRole.FOLLOWER


def test_a_removed_node_gets_its_removal_even_if_it_is_late() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.isolate(3)
    change(cluster, 1, members([1, 2]))
    cluster.settle()
    assert cluster[1].peers == {2, 3}
    cluster.heal()
    for _ in range(2):
        cluster.beat(1)
    assert 3 in cluster[3].membership.removed
    assert cluster[3].membership_committed
    for _ in range(2 * cluster.config.election_ticks_max):
        cluster.tick(1)
        cluster.settle()
    assert cluster[1].peers == {2}
    assert cluster[1].progress.keys() == {2}


def test_a_voter_is_not_marked_removed_while_its_vote_is_needed() -> None:
    """A peer may turn a removed node away, and that one's vote is needed to finish the change."""
    present = members([1, 2, 3], [4])
    joint = enter(present, replace(members([1]), removed=frozenset({2, 3, 4})))
    assert joint.removed == {4}
    assert joint.addresses.keys() >= {1, 2, 3}
    after = leave(joint)
    assert after.removed == {2, 3, 4}
    assert after.addresses.keys() == {1}


def test_a_removed_learner_never_comes_back() -> None:
    cluster = Cluster(3, learners=[4])
    cluster.elect(1)
    change(cluster, 1, members([1, 2, 3]))
    cluster.settle()
    assert cluster[1].membership.removed == {4}
    with pytest.raises(MembershipRefused, match="never comes back"):
        cluster[1].propose_membership(members([1, 2, 3], [4]))


def test_what_was_removed_is_remembered_over_later_changes() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    change(cluster, 1, members([1, 2]))
    cluster.settle()
    change(cluster, 1, members([1, 2], [5]))
    cluster.settle()
    change(cluster, 1, members([1, 2, 5]))
    cluster.settle()
    assert cluster[5].membership.removed == {3}


# When a change is refused.


def refusal(cluster: Cluster, node_id: int, target: Membership) -> str:
    last_index = cluster[node_id].log.last_index
    with pytest.raises(MembershipRefused) as caught:
        cluster[node_id].propose_membership(target)
    assert cluster[node_id].log.last_index == last_index
    return caught.value.message


def test_a_change_is_refused_by_followers() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    assert "leader" in refusal(cluster, 2, members([1, 2]))


def test_a_change_is_refused_before_the_first_commit_in_the_term() -> None:
    """Copycat #23: an older change, not committed, may still be alive elsewhere."""
    cluster = Cluster(3)
    cluster.campaign(1)
    cluster.settle(hold=lambda m: isinstance(m, AppendEntries))
    assert cluster[1].leads
    assert "just been elected" in refusal(cluster, 1, members([1, 2]))
    cluster.settle()
    cluster[1].propose_membership(members([1, 2]))


def test_a_change_is_refused_while_another_one_is_under_way() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.isolate(1)
    change(cluster, 1, members([1, 2, 3], [4]))
    assert "under way" in refusal(cluster, 1, members([1, 2]))
    cluster.heal()
    cluster.beat(1)
    cluster.beat(1)
    cluster[1].propose_membership(members([1, 2]))


def test_a_change_is_refused_until_the_joint_membership_is_left() -> None:
    cluster = joint_on_all([1, 2, 3], members([1, 2]))
    assert "under way" in refusal(cluster, 1, members([1, 2, 5]))


def test_a_change_to_no_voters_is_refused() -> None:
    cluster = Cluster(1, learners=[2])
    cluster.elect(1)
    assert "voter" in refusal(cluster, 1, members([], [2]))


def test_a_change_is_refused_during_a_leadership_transfer() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster[1].transfer_leadership(2)
    assert "being transferred" in refusal(cluster, 1, members([1, 2]))


def test_a_node_without_a_membership_neither_votes_itself_in_nor_commits() -> None:
    cluster = Cluster(1)
    cluster.add_node(9)
    cluster.tick(9, 100)
    assert cluster[9].role is RaftRole.FOLLOWER

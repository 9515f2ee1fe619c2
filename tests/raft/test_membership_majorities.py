"""A change of membership that no majority would acknowledge is refused, unless it is forced."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from raftkv.errors import MembershipRefused
from raftkv.raft import quorum
from raftkv.raft.entry import Membership
from raftkv.raft.membership import enter, require_majorities
from tests.raft.cluster import Cluster, members

# The arithmetic.


def refusal_of(present: Membership, target: Membership, acknowledging: set[int]) -> str:
    """The message of the refusal; empty if the change is let through."""
    try:
        require_majorities(present, enter(present, target), frozenset(acknowledging))
    except MembershipRefused as refused:
        return refused.message
    return ""


def test_removing_a_live_node_while_another_is_dead_is_refused_with_the_arithmetic() -> None:
    assert refusal_of(members([1, 2, 3]), members([1, 3]), {1, 2}) == (
        "2 of 3 voters acknowledge (nodes 1, 2); after this change 1 of 2 would, and a majority is"
        " 2: nothing could be committed while node 3 does not acknowledge. Start node 3 first, or"
        " `raftkv member replace 3 NEW`; --force does it anyway"
    )


def test_a_majority_of_the_new_voters_alone_commits_no_change() -> None:
    said = refusal_of(members([1, 2, 3, 4, 5]), members([1, 2, 6]), {1, 2, 6})
    assert said == (
        "2 of 5 voters acknowledge (nodes 1, 2), and a majority is 3: the change could not be"
        " committed. Start nodes 3, 4, 5 first; --force proposes it anyway"
    )


@pytest.mark.parametrize(
    ("target", "acknowledging"),
    [
        (members([1, 2]), {1, 2}),  # the dead one goes
        (members([1, 2, 4]), {1, 2, 4}),  # the dead one is replaced
        (members([1, 2, 3], [4]), {1, 2}),  # its successor begins as a learner
        (members([1, 2, 3, 4]), {1, 2, 4}),  # and votes before the dead one goes
        (members([1]), {1, 2}),
    ],
)
def test_what_keeps_a_majority_goes_on_while_a_node_is_dead(
    target: Membership, acknowledging: set[int]
) -> None:
    assert refusal_of(members([1, 2, 3], [4]), target, acknowledging) == ""


def test_a_learner_that_does_not_acknowledge_counts_for_nothing_when_it_is_promoted() -> None:
    present, target = members([1, 2, 3], [4]), members([1, 2, 3, 4])
    assert "after this change 2 of 4 would, and a majority is 3" in refusal_of(
        present, target, {1, 2}
    )
    assert refusal_of(present, target, {1, 2, 4}) == ""


def test_a_learner_is_added_and_removed_only_where_that_can_be_committed() -> None:
    present = members([1, 2, 3], [4])
    for target in (members([1, 2, 3]), members([1, 2, 3], [4, 5])):
        assert "1 of 3 voters acknowledges (node 1)" in refusal_of(present, target, {1, 4})
        assert refusal_of(present, target, {1, 2}) == ""


def test_whatever_is_let_through_leaves_a_majority_of_each_configuration() -> None:
    """All changes among up to four voters, against a count that is made another way."""
    ids = (1, 2, 3, 4)
    groups = [frozenset(c) for size in ids for c in itertools.combinations(ids, size)]
    for old, new, alive in itertools.product(groups, repeat=3):
        let_through = not refusal_of(members(old), members(new), set(alive))
        assert let_through == all(2 * len(group & alive) > len(group) for group in (old, new))


@pytest.mark.parametrize(
    "membership",
    [
        members([]),
        members([1]),
        members([1, 2], [4]),
        members([1, 2, 3]),
        Membership(frozenset({1, 2, 3}), voters_outgoing=frozenset({3, 4})),
    ],
)
def test_the_highest_number_that_majorities_have_reached_is_agreed(membership: Membership) -> None:
    """0 if there is none: in an empty configuration nothing is committed."""
    for numbers in itertools.product(range(3), repeat=4):
        number_of = dict(zip((1, 2, 3, 4), numbers, strict=True))
        reached = [
            number
            for number in (1, 2)
            if quorum.has_majorities(
                membership, {node for node, own in number_of.items() if own >= number}
            )
        ]
        assert quorum.agreed(membership, number_of.__getitem__) == max(reached, default=0)


def test_a_majority_is_needed_in_both_configurations() -> None:
    joint = Membership(frozenset({1, 2, 4}), voters_outgoing=frozenset({1, 2, 3}))
    assert quorum.has_majorities(joint, {1, 2})
    assert not quorum.has_majorities(joint, {3, 4})
    assert not quorum.has_majorities(joint, {1, 4})


# Who acknowledges.


def pass_time(cluster: Cluster, ticks: int) -> None:
    for _ in range(ticks):
        for node in cluster.up:
            cluster.tick(node.node_id)
        cluster.settle()


def acknowledging(cluster: Cluster) -> frozenset[int]:
    """Since an election timeout."""
    raft = cluster[cluster.leader]
    return raft.acknowledging(raft.ticks_led - cluster.config.election_ticks_max - 1)


@pytest.mark.parametrize("silent_for", [0, 1])
def test_the_core_counts_who_acknowledged_within_an_election_timeout(silent_for: int) -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.crash(3)
    pass_time(cluster, cluster.config.election_ticks_max)
    cluster.tick(1, silent_for)
    if silent_for:
        with pytest.raises(MembershipRefused, match="after this change 1 of 2 would"):
            cluster[1].propose_membership(members([1, 3]))
        assert cluster[1].log.last_index == cluster[1].commit_index
        cluster[1].propose_membership(members([1, 2]))
    else:
        cluster[1].propose_membership(members([1, 3]))
    assert cluster[1].membership.joint


def test_a_forced_change_is_proposed_and_waits_for_its_majority() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.crash(3)
    pass_time(cluster, 2 * cluster.config.election_ticks_max)
    cluster[1].propose_membership(members([1, 3]), force=True)
    cluster.settle()
    assert cluster[1].membership.joint
    assert not cluster[1].membership_committed
    cluster.restart(3)
    pass_time(cluster, 6 * cluster.config.election_ticks_max)
    assert cluster[cluster.leader].membership.voters == {1, 3}
    assert cluster[cluster.leader].membership_committed


def test_a_new_leader_counts_no_peer_as_acknowledging_before_its_first_reply() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    pass_time(cluster, cluster.config.heartbeat_ticks)
    cluster.crash(3)
    cluster[1].transfer_leadership(2)
    cluster.settle()
    assert cluster[2].leads
    assert acknowledging(cluster) == {1, 2}
    with pytest.raises(MembershipRefused, match="2 of 3 voters acknowledge"):
        cluster[2].propose_membership(members([2, 3]))


def test_a_node_whose_disk_hangs_answers_heartbeats_and_does_not_acknowledge() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.nodes[3].slow_disk = True
    pass_time(cluster, 2 * cluster.config.election_ticks_max)
    assert acknowledging(cluster) == {1, 2, 3}  # nothing was there to acknowledge
    cluster.propose(1, b"x")
    pass_time(cluster, 2 * cluster.config.election_ticks_max)
    assert cluster[1].progress[3].recently_active
    assert acknowledging(cluster) == {1, 2}


def test_a_node_that_lags_and_takes_entries_acknowledges() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    before = cluster[1].ticks_led
    cluster.tick(1)
    cluster.propose(1, b"x")
    cluster.settle()
    cluster.propose(1, b"y")  # not acknowledged by any node yet
    assert cluster[1].acknowledging(before) == {1, 2, 3}
    assert cluster[1].acknowledging(before + 1) == {1}


def test_a_learner_that_waits_for_its_snapshot_does_not_acknowledge() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.settle()
    cluster.nodes[1].compact(cluster[1].last_applied)
    cluster.add_node(4)
    cluster.nodes[4].slow_disk = True
    cluster[1].propose_membership(members([1, 2, 3], [4]))
    pass_time(cluster, cluster.config.election_ticks_max)
    assert acknowledging(cluster) == {1, 2, 3}
    cluster.nodes[4].slow_disk = False
    pass_time(cluster, cluster.config.election_ticks_max)
    assert acknowledging(cluster) == {1, 2, 3, 4}


# Ids.


def test_a_learner_that_never_started_gives_its_id_back() -> None:
    present = replace(members([1, 2, 3], [4, 5]), disk_ids={5: 0xD15C})
    after = enter(present, members([1, 2, 3]))
    assert after.removed == {5}
    again = enter(after, members([1, 2, 3], [4]))
    assert again.learners == {4}


@pytest.mark.parametrize("disk_ids", [{}, {1: 1, 2: 2}])
def test_the_id_of_a_voter_is_spent_whatever_is_recorded_of_its_disk(
    disk_ids: dict[int, int],
) -> None:
    present = replace(members([1, 2, 3]), disk_ids=disk_ids)
    assert present.started(3)
    assert enter(present, members([1, 2])).voters_outgoing == {1, 2, 3}
    joint = enter(present, members([1, 2]))
    assert 3 not in joint.removed  # its vote is still needed


def test_without_recorded_disks_the_id_of_a_removed_learner_is_spent() -> None:
    present = members([1, 2, 3], [4])
    assert enter(present, members([1, 2, 3])).removed == {4}

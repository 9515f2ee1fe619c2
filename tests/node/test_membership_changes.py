"""What each change makes of a membership, and in which words it is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftkv.errors import MembershipRefused, MemberUnknown
from raftkv.node.membership_changes import (
    AddLearner,
    Claim,
    MembershipChange,
    Promote,
    Remove,
    Replace,
    UpdateAddress,
)
from raftkv.raft.entry import Address, Membership
from raftkv.versions import HASHED, SUPPORTED, VersionRange
from tests.node.wire import address_of

DISK, OTHER_DISK = 0xD15C, 0xBAD
PRESENT = Membership(
    voters=frozenset({1, 2, 3}),
    learners=frozenset({4, 5}),
    addresses={each: address_of(each) for each in range(1, 6)},
    removed=frozenset({6}),
    disk_ids={1: 1, 2: 2, 3: 3, 4: DISK},
)


def claim(node_id: int, disk_id: int = DISK, versions: VersionRange = SUPPORTED) -> Claim:
    return Claim(node_id, disk_id, versions, address_of(node_id))


def refusal(change: MembershipChange, present: Membership = PRESENT) -> str:
    with pytest.raises((MembershipRefused, MemberUnknown)) as refused:
        change.target(present)
    return refused.value.message


def test_a_learner_is_added_beside_the_others() -> None:
    added = AddLearner(7, address_of(7))
    after = added.target(PRESENT)
    assert after == replace(
        PRESENT, learners=frozenset({4, 5, 7}), addresses={**PRESENT.addresses, 7: address_of(7)}
    )
    assert added.done(after)
    assert not added.done(PRESENT)


def test_an_id_that_is_taken_or_spent_is_refused_with_one_that_is_free() -> None:
    assert "choose another id, such as 7" in refusal(AddLearner(3, Address("a:1", "a:2")))
    assert "choose a new one, such as 7" in refusal(AddLearner(6, address_of(6)))


def test_an_address_that_another_member_has_is_refused() -> None:
    assert "n2:1 is the peer address of node 2" in refusal(AddLearner(7, Address("n2:1", "x:2")))


def test_a_loopback_address_among_others_can_be_forced() -> None:
    here = Address("127.0.0.1:1", "127.0.0.1:2")
    assert refusal(AddLearner(7, here)).endswith("; --force adds it anyway")
    assert AddLearner(7, here, force=True).target(PRESENT).addresses[7] == here


def test_a_promoted_learner_has_a_vote_and_is_no_learner() -> None:
    after = Promote(4).target(PRESENT)
    assert (after.voters, after.learners) == ({1, 2, 3, 4}, {5})
    assert "a voter already" in refusal(Promote(3))
    assert "not a member; the members are 1, 2, 3, 4, 5" in refusal(Promote(9))


def test_a_removed_member_leaves_no_address_and_no_disk() -> None:
    after = Remove(3).target(PRESENT)
    assert after.members == {1, 2, 4, 5}
    assert after.addresses.keys() == {1, 2, 4, 5}
    assert after.disk_ids.keys() == {1, 2, 4}
    assert "last voter" in refusal(Remove(1), replace(PRESENT, voters=frozenset({1})))


# Replace.


def test_a_learner_gets_the_vote_of_the_node_that_it_replaces() -> None:
    after = Replace(2, 4).target(PRESENT)
    assert (after.voters, after.learners) == ({1, 3, 4}, {5})
    assert 2 not in after.addresses
    assert Replace(2, 4).done(after)


def test_the_replacement_of_a_learner_stays_a_learner() -> None:
    after = Replace(5, 4).target(PRESENT)
    assert (after.voters, after.learners) == ({1, 2, 3}, {4})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Replace(2, 9), "node 9 is not a member"),
        (Replace(2, 3), "node 3 is a voter already, .*`raftkv member remove 2`"),
        (Replace(6, 4), "node 6 was removed, .*`raftkv member promote 4`"),
        (Replace(9, 4), "node 9 is not a member, so node 4"),
        (Replace(2, 5), "node 5 has not started yet"),
    ],
)
def test_the_refusal_of_an_impossible_replacement_has_the_right_command(
    change: Replace, said: str
) -> None:
    with pytest.raises((MembershipRefused, MemberUnknown), match=said):
        change.target(PRESENT)


def test_without_recorded_disks_every_member_counts_as_started() -> None:
    assert Replace(2, 5).target(replace(PRESENT, disk_ids={})).voters == {1, 3, 5}


def test_only_a_replacement_that_was_made_counts_as_made_before() -> None:
    made = replace(Replace(2, 4).target(PRESENT), removed=frozenset({2, 6}))
    assert Replace(2, 4).done_before(made)
    assert not Replace(2, 4).done_before(PRESENT)
    removed_by_hand = replace(Remove(2).target(PRESENT), removed=frozenset({2, 6}))
    assert not Replace(2, 4).done_before(removed_by_hand)  # node 4 has no vote
    assert not Replace(9, 1).done_before(PRESENT)


# Addresses.


def test_an_address_that_is_left_empty_stays() -> None:
    change = UpdateAddress(2, Address("", "elsewhere:2"))
    after = change.target(PRESENT)
    assert after.addresses[2] == Address("n2:1", "elsewhere:2")
    assert (after.voters, after.learners) == (PRESENT.voters, PRESENT.learners)
    assert change.done(after)
    assert not change.done(PRESENT)


def test_the_new_address_of_a_member_is_checked_like_that_of_a_new_one() -> None:
    assert "peer address of node 1 already" in refusal(UpdateAddress(2, Address("n1:1", "")))
    assert "is loopback" in refusal(UpdateAddress(2, Address("127.0.0.1:1", "")))
    assert "not a member" in refusal(UpdateAddress(9, Address("x:1", "")))


# Claims.


def test_a_claim_binds_an_added_id_to_a_disk() -> None:
    after = claim(5).target(PRESENT)
    assert after == replace(PRESENT, disk_ids={**PRESENT.disk_ids, 5: DISK})
    assert claim(5).done(after)
    assert not claim(5).done(PRESENT)
    assert claim(4).done(PRESENT)  # the same disk again


def test_another_disk_gets_no_started_id() -> None:
    for node_id in (4, 1):
        assert refusal(claim(node_id, OTHER_DISK)) == (
            f"node {node_id} has started from another disk before; an id never starts again from"
            f" an empty disk. Fix: `raftkv member replace {node_id} 7 --peer HOST:PORT --client"
            " HOST:PORT`, with addresses that no member has"
        )


def test_a_voter_counts_as_started_without_a_recorded_disk() -> None:
    said = refusal(claim(3), replace(PRESENT, disk_ids={}))
    assert "node 3 has started from another disk before" in said


def test_the_refusal_of_an_unknown_id_has_the_command_to_add_it() -> None:
    with pytest.raises(MemberUnknown, match="`raftkv member add 9 --peer n9:1 --client n9:2`"):
        claim(9).target(PRESENT)


def test_the_refusal_of_a_removed_id_does_not_advise_to_add_it() -> None:
    said = refusal(claim(6))
    assert "take a new id" in said
    assert "member add 7 --peer n6:1 --client n6:2" in said
    assert "member add 6" not in said


def test_a_node_of_other_versions_is_refused_with_both_ranges() -> None:
    with pytest.raises(MembershipRefused) as refused:
        claim(5, versions=VersionRange(2, 3)).require_able(HASHED)
    said = refused.value.message
    assert "cluster versions 2 to 3" in said
    assert f"at version {HASHED}" in said
    assert str(SUPPORTED) in said


def test_a_claim_records_the_address_of_the_node() -> None:
    moved = replace(claim(5), address=Address("elsewhere:1", "elsewhere:2"))
    assert moved.target(PRESENT).addresses[5] == Address("elsewhere:1", "elsewhere:2")
    taken = replace(claim(5), address=address_of(1))
    assert "peer address of node 1 already" in refusal(taken)
    # The default of a node that was not told where it is.
    lost = replace(claim(5), address=Address("127.0.0.1:7515", "127.0.0.1:7415"))
    assert "is loopback" in refusal(lost)

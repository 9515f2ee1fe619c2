"""A leader changes the membership: nodes on a wire in memory, some of which are dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from raftkv.errors import MembershipRefused, NotLeader, OutcomeUnknown
from raftkv.node.node import Node
from raftkv.raft.entry import Address
from raftkv.versions import SUPPORTED
from tests.node.wire import Wire, address_of, cluster_of, leaders, soon, until

ELECTION_TIMEOUT_S = 1.0
DISK = 0xD15C


@asynccontextmanager
async def three_nodes(directory: Path) -> AsyncIterator[tuple[Wire, Node, list[int]]]:
    """The wire, the leader and its followers, where disks are recorded."""
    made = cluster_of(directory, 1, leader_lease=False)
    async with made as (wire, leader):
        yield wire, leader, sorted(wire.nodes.keys() - {leader.node_id})


async def join(wire: Wire, leader: Node, node_id: int) -> Node:
    """Add a learner and start it."""
    await leader.member_add(node_id, address_of(node_id), soon())
    await leader.member_join(node_id, DISK, SUPPORTED, address_of(node_id), soon())
    node = await wire.start(node_id)
    await until(lambda: leader.core.progress[node_id].match_index > 0)
    return node


# Majorities.


async def test_a_live_node_is_not_removed_while_another_is_dead(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as (wire, leader, (dead, alive)):
        wire.cut_off = {dead}
        said = f"2 of 3 voters acknowledge .*after this change 1 of 2 would.* node {dead} first"
        with pytest.raises(MembershipRefused, match=said):
            await leader.member_remove(alive, soon())
        assert leader.membership.voters == {1, 2, 3}
        after = await leader.member_remove(dead, soon())
        assert (after.voters, after.removed) == ({leader.node_id, alive}, {dead})


async def test_a_node_that_has_just_died_is_not_counted(tmp_path: Path) -> None:
    """It has acknowledged within an election timeout, and nothing since it was asked for this."""
    async with three_nodes(tmp_path) as (wire, leader, (dead, alive)):
        raft = leader.core
        await until(lambda: raft.acknowledging(raft.ticks_led - 1) == {1, 2, 3})
        wire.cut_off = {dead}
        with pytest.raises(MembershipRefused, match="after this change 1 of 2 would"):
            await leader.member_remove(alive, soon())


async def test_a_founder_that_does_not_answer_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as (wire, leader, (slow, removed)):
        wire.cut_off = {slow}
        removal = asyncio.ensure_future(leader.member_remove(removed, soon()))
        await asyncio.sleep(0.4 * ELECTION_TIMEOUT_S)
        assert not removal.done()
        wire.cut_off = set()
        assert (await removal).voters == {leader.node_id, slow}


async def test_a_refusal_comes_before_the_callers_time_is_over(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as (wire, leader, (dead, alive)):
        wire.cut_off = {dead}
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 0.5
        with pytest.raises(MembershipRefused):
            await leader.member_remove(alive, deadline)
        assert loop.time() < deadline


async def test_a_forced_removal_is_made_once_its_majority_is_back(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as (wire, leader, (dead, alive)):
        wire.cut_off = {dead}
        with pytest.raises(OutcomeUnknown):
            await leader.member_remove(alive, asyncio.get_running_loop().time() + 0.1, force=True)
        assert leader.membership.joint
        wire.cut_off = set()
        await until(lambda: leader.membership.voters == {leader.node_id, dead})


async def test_the_last_voter_stays_whatever_is_forced(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as (_, leader, followers):
        for follower in followers:
            await leader.member_remove(follower, soon())
        with pytest.raises(MembershipRefused, match="last voter"):
            await leader.member_remove(leader.node_id, soon(), force=True)


async def test_a_change_during_another_one_is_refused_and_may_be_tried_again(
    tmp_path: Path,
) -> None:
    async with three_nodes(tmp_path) as (wire, leader, (one, other)):
        wire.cut_off = {one, other}
        first = asyncio.ensure_future(leader.member_remove(one, soon(), force=True))
        await until(lambda: leader.membership.joint)
        with pytest.raises(MembershipRefused, match="under way") as refused:
            await leader.member_add(4, address_of(4), soon(), force=True)
        assert refused.value.retry_after_s
        wire.cut_off = set()
        await first
        assert (await leader.member_add(4, address_of(4), soon())).learners == {4}
        assert leader.membership.voters == {leader.node_id, other}


async def test_a_learner_is_added_while_a_voter_is_dead(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as (wire, leader, (dead, _)):
        wire.cut_off = {dead}
        assert (await leader.member_add(4, address_of(4), soon())).learners == {4}


async def test_a_learner_that_acknowledges_nothing_is_not_promoted(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as (wire, leader, _):
        await join(wire, leader, 4)
        raft = leader.core
        await until(lambda: raft.progress[4].match_index == raft.log.last_index)
        wire.cut_off = {4}
        with pytest.raises(MembershipRefused, match="node 4 acknowledges nothing at the moment"):
            await leader.member_promote(4, soon())
        wire.cut_off = set()
        assert (await leader.member_promote(4, soon())).voters == {1, 2, 3, 4}


# Replacements.


async def test_a_dead_node_is_replaced_in_one_change(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as (wire, leader, (dead, alive)):
        wire.cut_off = {dead}
        await join(wire, leader, 4)
        after = await leader.member_replace(dead, 4, soon())
        assert after.voters == {leader.node_id, alive, 4}
        assert after.removed == {dead}
        assert await leader.member_replace(dead, 4, soon()) == after  # once more


async def test_a_node_that_has_not_started_replaces_no_member(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as (_, leader, (old, _)):
        await leader.member_add(4, address_of(4), soon())
        with pytest.raises(MembershipRefused, match="has not started yet") as refused:
            await leader.member_replace(old, 4, soon(), force=True)
        assert refused.value.retry_after_s


async def test_a_leader_that_is_replaced_hands_over(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as (wire, leader, followers):
        await join(wire, leader, 4)
        after = await leader.member_replace(leader.node_id, 4, soon())
        assert after.voters == {*followers, 4}
        await until(lambda: bool(leaders(wire, but=leader)))


# Addresses.


async def test_links_follow_the_new_address_of_a_member(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as (wire, leader, (moved, other)):
        after = await leader.member_update(moved, Address("elsewhere:9", ""), soon())
        assert after.addresses[moved] == Address("elsewhere:9", address_of(moved).client)
        for node_id in (leader.node_id, other):
            await until(lambda n=node_id: wire.links[n].addresses[moved] == "elsewhere:9")
        assert after.voters == {1, 2, 3}


# Claims.


async def test_an_added_node_claims_its_id_once(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as (_, leader, _):
        await leader.member_add(4, address_of(4), soon())
        assert not leader.membership.started(4)
        after = await leader.member_join(4, DISK, SUPPORTED, address_of(4), soon())
        assert after.disk_ids[4] == DISK
        last_index = leader.core.log.last_index
        assert await leader.member_join(4, DISK, SUPPORTED, address_of(4), soon()) == after
        assert leader.core.log.last_index == last_index
        with pytest.raises(MembershipRefused, match="has started from another disk"):
            await leader.member_join(4, DISK + 1, SUPPORTED, address_of(4), soon())


async def test_a_claim_waits_for_another_change(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as (wire, leader, (one, other)):
        await leader.member_add(4, address_of(4), soon())
        wire.cut_off = {one, other}
        removal = asyncio.ensure_future(leader.member_remove(one, soon(), force=True))
        claim = asyncio.ensure_future(leader.member_join(4, DISK, SUPPORTED, address_of(4), soon()))
        await asyncio.sleep(0.1)
        assert not claim.done()
        wire.cut_off = set()
        await removal
        assert (await claim).disk_ids[4] == DISK


async def test_the_id_of_a_learner_that_never_started_can_be_used_again(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as (_, leader, _):
        await leader.member_add(33, address_of(33), soon())
        assert (await leader.member_remove(33, soon())).removed == set()
        await leader.member_add(33, address_of(33), soon())
        await leader.member_join(33, DISK, SUPPORTED, address_of(33), soon())
        assert (await leader.member_remove(33, soon())).removed == {33}


async def test_followers_name_the_leader(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as (wire, leader, (follower, _)):
        node = wire.nodes[follower]
        for call in (
            node.member_add(4, address_of(4), soon()),
            node.member_replace(1, 4, soon()),
            node.member_update(1, Address("x:1", ""), soon()),
            node.member_join(4, DISK, SUPPORTED, address_of(4), soon()),
        ):
            with pytest.raises(NotLeader) as refused:
                await call
            address = address_of(leader.node_id).client
            assert refused.value.facts["leader_address"] == address

"""Members compare their states: a minority leaves service, and without a majority nobody writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from raftkv.errors import OutOfService, ReplicasDiffer
from raftkv.kv.state_hash import StateMark
from raftkv.kv.store import Family
from raftkv.node.node import Node
from raftkv.node.state_comparison import (
    DISPUTE_S_MAX,
    NOTHING_FOUND,
    Judgement,
    StateComparison,
    judge,
)
from raftkv.raft.entry import Membership
from raftkv.storage.memory_state import turned
from raftkv.versions import COMPARED
from tests.node.test_damage import put, value_at
from tests.node.wire import Wire, cluster_of, leaders, members_of, raise_version, soon, until

MARK_ENTRIES = 8


def marks(**states: int) -> list[StateMark]:
    """Marks at the indexes "at8", "at16", ... with these hashes."""
    return [StateMark(int(name[2:]), state) for name, state in states.items()]


THREE = members_of(1, 2, 3)


def test_one_of_three_that_differs_is_wrong() -> None:
    reported = {1: marks(at8=1), 2: marks(at8=2), 3: marks(at8=1)}
    assert judge(reported, THREE) == Judgement({2: 8}, {})


def test_equal_states_and_marks_at_different_indexes_show_nothing() -> None:
    assert judge({1: marks(at8=1, at16=2), 2: marks(at16=2, at24=3)}, THREE) is NOTHING_FOUND
    assert judge({1: marks(at8=1), 2: marks(at16=9)}, THREE) is NOTHING_FOUND


def test_two_that_differ_without_the_third_are_in_dispute() -> None:
    assert judge({1: marks(at8=1), 2: marks(at8=2)}, THREE) == Judgement({}, {1: 8, 2: 8})
    all_differ = {1: marks(at8=1), 2: marks(at8=2), 3: marks(at8=3)}
    assert judge(all_differ, THREE).disputed == {1: 8, 2: 8, 3: 8}


def test_an_earlier_mark_of_the_third_ends_a_dispute() -> None:
    reported = {1: marks(at8=1, at16=1), 2: marks(at8=2, at16=2), 3: marks(at8=1)}
    assert judge(reported, THREE) == Judgement({2: 8}, {})


def test_a_learner_has_no_vote_and_can_be_wrong() -> None:
    with_learner = Membership(voters=frozenset({1, 2}), learners=frozenset({3}))
    reported = {1: marks(at8=1), 2: marks(at8=2), 3: marks(at8=1)}
    assert judge(reported, with_learner).disputed == {1: 8, 2: 8}
    reported = {1: marks(at8=1), 2: marks(at8=1), 3: marks(at8=2)}
    assert judge(reported, with_learner) == Judgement({3: 8}, {})


def test_a_stranger_has_no_say() -> None:
    reported = {1: marks(at8=1), 8: marks(at8=2), 9: marks(at8=2)}
    assert judge(reported, THREE) is NOTHING_FOUND


def test_in_joint_consensus_both_majorities_must_agree() -> None:
    joint = Membership(voters=frozenset({1, 4, 5}), voters_outgoing=frozenset({1, 2, 3}))
    two = {1: marks(at8=1), 2: marks(at8=1), 4: marks(at8=2)}
    assert judge(two, joint).disputed == {1: 8, 2: 8, 4: 8}
    assert judge({**two, 5: marks(at8=1)}, joint) == Judgement({4: 8}, {})


def test_a_dispute_is_left_to_the_operator_after_a_while_and_ends_with_a_majority() -> None:
    comparison = StateComparison(1)
    comparison.reported(2, marks(at8=2))
    comparison.judge(marks(at8=1), THREE, 10.0)
    assert comparison.in_dispute
    assert not comparison.is_for_operator(10.0 + DISPUTE_S_MAX / 2)
    assert comparison.is_for_operator(10.0 + DISPUTE_S_MAX)
    comparison.reported(3, marks(at8=1))
    assert comparison.judge(marks(at8=1), THREE, 20.0).wrong == {2: 8}
    assert not comparison.in_dispute
    assert not comparison.is_for_operator(20.0)


# ---- running nodes ----------------------------------------------------------------------


@asynccontextmanager
async def compared(directory: Path) -> AsyncIterator[tuple[Wire, Node]]:
    """A cluster that compares states, after a first put."""
    async with cluster_of(directory, 1, leader_lease=False, mark_entries=MARK_ENTRIES) as (
        wire,
        leader,
    ):
        await raise_version(wire, leader, COMPARED)
        await put(leader, b"1")
        await until(lambda: all(value_at(node) == b"1" for node in wire.nodes.values()))
        yield wire, leader


def flip(wire: Wire, node: Node, key: bytes = b"k") -> None:
    """A bit of the key's row turns over in memory, below no checksum."""
    store = wire.states[node.node_id].store
    row = store.get(Family.CURRENT, key)
    assert row is not None
    store.write({Family.CURRENT: {key: turned(row, 8 * len(row) - 1)}})


async def put_until_marked(node: Node) -> None:
    for number in range(MARK_ENTRIES):
        await put(node, b"%d" % number)


@pytest.mark.parametrize("leads", [False, True])
async def test_a_node_whose_state_differs_from_the_majority_is_quarantined(
    tmp_path: Path, leads: bool
) -> None:
    async with compared(tmp_path) as (wire, leader):
        wrong = leader if leads else next(n for n in wire.nodes.values() if n is not leader)
        flip(wire, wrong)
        await put_until_marked(leader)
        async with asyncio.timeout(5.0):
            reason = await asyncio.shield(wrong.stopped)
        assert isinstance(reason, OutOfService)
        assert "differs at index" in reason.message
        assert f"`raftkv member replace {wrong.node_id} NEW`" in reason.message
        await until(lambda: bool(wrong.identity.out_of_service))
        await until(lambda: bool(leaders(wire, but=wrong)))
        (serving,) = leaders(wire, but=wrong)
        await put(serving, b"again")
        assert f"member replace {wrong.node_id} NEW" in serving.status().notice
        others = [node for node in wire.nodes.values() if node is not wrong]
        assert not any(node.stopped.done() for node in others)


async def test_two_that_differ_stop_writes_until_the_third_decides(tmp_path: Path) -> None:
    async with compared(tmp_path) as (wire, leader):
        wrong, away = (node for node in wire.nodes.values() if node is not leader)
        await wire.kill(away.node_id)
        flip(wire, wrong)
        await put_until_marked(leader)
        loop = asyncio.get_running_loop()
        await until(lambda: bool(leader.driver.dispute) and bool(wrong.driver.dispute))
        await asyncio.sleep(DISPUTE_S_MAX)
        for node in (leader, wrong):
            before = node.core.log.last_index
            with pytest.raises(ReplicasDiffer, match="transfer-leader"):
                await node.submit(b"", soon())
            assert node.core.log.last_index == before
            assert "differ at index" in node.status().notice
        await leader.read_barrier(loop.time() + 10.0)
        await wire.restart_killed(away.node_id)
        async with asyncio.timeout(20.0):
            reason = await asyncio.shield(wrong.stopped)
        assert isinstance(reason, OutOfService)
        await until(lambda: not leader.driver.dispute)
        (serving,) = leaders(wire, but=wrong)
        await put(serving, b"again")

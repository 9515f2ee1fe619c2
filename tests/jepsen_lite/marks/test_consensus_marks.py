"""Marks of elections, replication and reads, observed at Raft cores without disk and network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from jepsen_lite.sim.coverage import elections, reads, replication
from jepsen_lite.sim.coverage.membership import observe_changes
from jepsen_lite.sim.coverage.snapshots import observe_installations
from raftkv.errors import MembershipRefused
from raftkv.raft.messages import AppendEntriesReply
from tests.raft.cluster import Cluster, members

from .observed import observed

OBSERVERS = (
    elections.observe_messages,
    elections.observe_votes,
    elections.observe_leaders,
    replication.observe_leaders_side,
    replication.observe_followers_side,
    observe_installations,
    observe_changes,
    reads.observe_read_indexes,
)


def elected() -> Cluster:
    cluster = Cluster(3)
    cluster.elect(1)
    return cluster


def a_write() -> None:
    cluster = elected()
    cluster.propose(1, b"x")
    cluster.settle()


def a_leader_alone() -> None:
    cluster = elected()
    cluster.isolate(1)
    cluster.tick(1, 2 * cluster.config.election_ticks_min)


def two_leaders_in_turn() -> None:
    """The first one's entries are cut off."""
    cluster = elected()
    cluster.isolate(1)
    cluster.propose(1, b"lost", b"lost too")
    cluster.settle()
    cluster.elect(2)
    cluster.propose(2, b"kept")
    cluster.settle()
    cluster.heal()
    cluster.beat(2)
    cluster.beat(2)


def a_third_leader() -> None:
    """The first leader's log is as long as its own, and of another term."""
    cluster = elected()
    cluster.isolate(1)
    cluster.propose(1, b"lost", b"lost too")
    cluster.tick(1, 2 * cluster.config.election_ticks_min)
    cluster.elect(2)
    cluster.propose(2, b"kept")
    cluster.settle()
    cluster.heal()
    cluster.crash(2)
    cluster.elect(3)
    cluster.beat(3)


def a_transfer() -> None:
    cluster = elected()
    cluster[1].transfer_leadership(3)
    cluster.settle()


def a_transfer_to_a_dead_node() -> None:
    cluster = elected()
    cluster.crash(3)
    cluster[1].transfer_leadership(3)
    for _ in range(2 * cluster.config.election_ticks_min):
        cluster.tick(1)
        cluster.settle()


def a_joint_configuration() -> None:
    cluster = elected()
    cluster.add_node(4)
    cluster[1].propose_membership(members([1, 2, 4]), force=True)
    cluster.observe(1)
    cluster.settle()


def a_second_change_at_once() -> None:
    cluster = elected()
    cluster.add_node(4)
    cluster[1].propose_membership(members([1, 2, 3], [4]), force=True)
    with pytest.raises(MembershipRefused):
        cluster[1].propose_membership(members([1, 2, 4]), force=True)


def a_snapshot() -> None:
    cluster = elected()
    cluster.isolate(3)
    for command in (b"a", b"b"):
        cluster.propose(1, command)
        cluster.settle()
    for node_id in (1, 2):
        cluster.nodes[node_id].compact(cluster[node_id].last_applied)
        cluster.observe(node_id)
    for _ in range(cluster.config.election_ticks_min):
        cluster.tick(1)
        cluster.settle()
    cluster.heal()
    cluster.beat(1)
    cluster.beat(1)


def a_read_of_a_new_leader() -> None:
    cluster = Cluster(3)
    cluster.campaign(1)
    cluster.settle(hold=lambda m: isinstance(m, AppendEntriesReply))
    cluster.read(1)
    cluster.pump(1)


def a_read_at_a_follower() -> None:
    cluster = elected()
    cluster.read(2)
    cluster.settle()


def a_lagging_follower() -> None:
    """It rejects, and its hint saves the leader some steps."""
    cluster = elected()
    cluster.isolate(3)
    for command in (b"a", b"b", b"c"):
        cluster.propose(1, command)
        cluster.settle()
    cluster.heal()
    cluster.crash(1)
    cluster.elect(2)
    cluster.beat(2)


CASES: dict[Callable[[], None], set[str]] = {
    a_write: {
        "a leader is elected",
        "a pre-vote is granted",
        "a vote is granted",
        "message: PreVote at a follower",
        "message: RequestVoteReply at a candidate",
        "message: AppendEntries at a follower",
        "message: AppendEntriesReply at a leader",
        "replication: probe to replicate",
    },
    a_leader_alone: {"a leader without a majority steps down"},
    two_leaders_in_turn: {
        "a leader is deposed by a higher term",
        "a follower cuts entries off",
        "a follower cuts entries off that are on its disk",
    },
    a_third_leader: {"entries are rejected: the log has another term there"},
    a_transfer: {
        "a transfer's target stands at once",
        "a vote is granted in a leadership transfer",
        "message: TimeoutNow at a follower",
    },
    a_transfer_to_a_dead_node: {"a leadership transfer times out"},
    a_joint_configuration: {
        "a joint configuration is entered",
        "a joint configuration is left",
        "a change of voters is forced",
    },
    a_second_change_at_once: {"a change is refused: another is under way"},
    a_snapshot: {
        "a snapshot is installed",
        "message: InstallSnapshot at a follower",
        "replication: probe to snapshot",
    },
    a_read_of_a_new_leader: {"a read index waits for the first commit of the term"},
    a_read_at_a_follower: {"a read index is answered to a follower"},
    a_lagging_follower: {
        "a conflict hint skips entries",
        "entries are rejected: the log is too short",
    },
}


@pytest.fixture(scope="module")
def reached() -> dict[Callable[[], None], Counter[str]]:
    found = {}
    for case in CASES:
        with observed(*OBSERVERS) as counts:
            case()
        found[case] = counts
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_history_reaches_its_marks(case, reached) -> None:
    assert CASES[case] - reached[case].keys() == set()


def test_a_calm_history_reaches_no_mark_of_the_others(reached) -> None:
    others = set().union(*(marks for case, marks in CASES.items() if case is not a_write))
    assert others & reached[a_write].keys() == set()

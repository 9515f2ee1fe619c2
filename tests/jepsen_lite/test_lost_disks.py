"""Disks that are emptied, replaced by a copy or cloned: the faults take effect, the required
outcome passes, and any other outcome fails the run.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from jepsen_lite.faults.kinds import (
    NEWEST,
    TRIGGERING_NODE,
    BitFlip,
    Clone,
    DiskFault,
    EmptyDisk,
    Fault,
    ForeignCopy,
    Kill,
    MemberChange,
    NetworkConditions,
    OlderCopy,
    Schedule,
    Trigger,
    TriggeredFault,
)
from jepsen_lite.sim.checks.disk_losses import Loss, Replica, must_serve
from jepsen_lite.sim.checks.invariants import Invariants
from jepsen_lite.sim.checks.violation import Violation
from jepsen_lite.sim.injection.disk_schedule import (
    ANYWHERE,
    CHANGE_S,
    IN_CALM,
    SHARE,
    Draw,
    with_lost_disk,
)
from jepsen_lite.sim.net.network import SimulatedNetwork
from jepsen_lite.sim.nodes.checked_node import CheckedNode
from jepsen_lite.sim.plan import Plan, draw_plan
from jepsen_lite.sim.run import Outcome, run
from jepsen_lite.sim.scenarios import SCENARIOS
from jepsen_lite.sim.world import World
from raftkv.errors import OutOfService
from raftkv.raft.entry import Entry, EntryKind, HardState, Membership
from raftkv.raft.messages import (
    AppendEntriesReply,
    HeartbeatReply,
    Message,
    RequestVote,
    RequestVoteReply,
)
from raftkv.wire.membership import encode_membership

pytestmark = pytest.mark.usefixtures("quiet_nodes")

ALL = ("node-1", "node-2", "node-3")
AT_ONCE = tuple((name, 0.2) for name in ALL)
LOST = [
    EmptyDisk(1.0, 0.3, ("node-2",)),
    EmptyDisk(1.0, 0.3, ("node-2",), AT_ONCE),
    ForeignCopy(1.0, 0.3, "node-2", "node-3"),
    OlderCopy(0.5, 3.0, "node-2", 0.3, restarted=False),
    OlderCopy(0.5, 3.0, "node-2", 0.3, restarted=True),
    Clone(1.0, 0.0, "node-2"),
    Clone(0.5, 3.0, "node-2", (("node-1", 0.2), ("node-3", 0.2))),
]
ALSO_LOST = [  # the same kinds, with power cuts at other moments
    EmptyDisk(1.0, 0.3, ("node-2",), (("node-1", 0.1), ("node-3", 2.5))),
    ForeignCopy(1.0, 0.3, "node-2", "node-3", AT_ONCE),
    OlderCopy(0.5, 3.0, "node-2", 2.0, restarted=False, power_cuts=AT_ONCE),
    OlderCopy(0.5, 3.0, "node-2", 0.3, restarted=True, power_cuts=(("node-1", 2.5),)),
    Clone(1.0, 0.0, "node-2", AT_ONCE),
    Clone(0.5, 3.0, "node-2"),
]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each node whose disk was lost leaves service at its start."""
    start = CheckedNode.start

    async def start_if_whole(self: CheckedNode) -> None:
        if self._replica.loss is not None:
            raise OutOfService("this disk is not the one that the cluster knows")
        await start(self)

    monkeypatch.setattr(CheckedNode, "start", start_if_whole)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each node whose disk was lost waits for ever at its start."""
    start = CheckedNode.start

    async def start_if_whole(self: CheckedNode) -> None:
        if self._replica.loss is not None:
            await asyncio.Event().wait()
        await start(self)

    monkeypatch.setattr(CheckedNode, "start", start_if_whole)


def plan_of(*faults: Fault, seconds: float = 5.0, founding: Schedule = ()) -> Plan:
    return replace(
        SCENARIOS["relays"](1),
        schedule=faults,
        founding=founding,
        seconds=seconds,
        think_s=0.2,
        workloads=("register",),
    )


def under(*faults: Fault, founding: Schedule = ()) -> Outcome:
    outcome = run(plan_of(*faults, founding=founding))
    assert not outcome.problems
    return outcome


# ---- what is expected ------------------------------------------------------------------


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize(
    "fault",
    [*LOST, *(pytest.param(each, marks=pytest.mark.slow) for each in ALSO_LOST)],
    ids=str,
)
def test_a_cluster_that_refuses_a_lost_disk_holds_and_gets_a_new_node(fault: DiskFault) -> None:
    outcome = under(fault)
    assert outcome.faults[type(fault).__name__] == 1
    assert outcome.served
    replaced = 0 if isinstance(fault, Clone) else 1  # by a new one, in one change
    assert outcome.members_changed == replaced


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("fault", LOST[:2], ids=str)
def test_a_cluster_whose_emptied_node_waits_holds_and_gets_a_new_node(fault: DiskFault) -> None:
    outcome = under(fault)
    assert outcome.served
    assert outcome.members_changed == 1


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("power_cuts", [(), (("node-3", 0.1),), (("node-3", 2.5),)], ids=str)
def test_a_cluster_that_has_lost_most_of_its_disks_passes_if_it_serves_nothing(
    power_cuts: tuple[tuple[str, float], ...],
) -> None:
    outcome = under(EmptyDisk(2.0, 0.3, ("node-1", "node-2"), power_cuts))
    assert outcome.faults == {"EmptyDisk": 1}
    assert not outcome.served
    assert outcome.members_changed == 0
    assert not outcome.vacuous


def test_a_cluster_that_serves_without_most_of_its_disks_fails_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """This cluster has all its disks and serves; only the required outcome is another one."""
    monkeypatch.setattr("jepsen_lite.sim.nodes.cluster.must_serve", lambda *_: False)
    (problem,) = run(plan_of()).problems
    assert "a new history has begun beside the old one" in problem


@pytest.mark.usefixtures("refused")
def test_the_disk_of_a_node_that_was_added_can_be_emptied() -> None:
    added = MemberChange(0.5, 0.0, "", add=True, add_first=True)
    outcome = under(added, EmptyDisk(0.5 + CHANGE_S, 0.2, (NEWEST,)))
    assert outcome.faults == {"MemberChange": 1, "EmptyDisk": 1}
    assert [record.target for record in outcome.fault_records] == ["", "node-4"]


@pytest.mark.usefixtures("refused")
def test_the_disk_of_a_founder_that_has_only_voted_can_be_emptied() -> None:
    trap = EmptyDisk(0.003, 0.1, (TRIGGERING_NODE,))
    outcome = under(founding=(TriggeredFault(0.0, 10.0, Trigger.VOTED, 1, trap),))
    assert outcome.faults == {"TriggeredFault": 1, "EmptyDisk": 1}
    emptied = next(record for record in outcome.fault_records if record.name == "EmptyDisk")
    assert emptied.began_ns < 1_500_000_000


def test_two_nodes_that_stay_in_service_with_one_disk_fail_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Independent of what production code does: neither of the two ever leaves service."""
    monkeypatch.setattr("jepsen_lite.sim.nodes.cluster.Cluster.doubled", True)
    (problem,) = run(plan_of()).problems
    assert "of two nodes that run from one disk, one left service" in problem


@pytest.mark.parametrize(
    ("lost", "voters", "serves"),
    [({2}, {1, 2, 3}, True), ({1, 2}, {1, 2, 3}, False), ({1, 2}, {1, 2, 3, 4}, False)],
)
def test_a_majority_of_the_disks_must_serve(lost: set[int], voters: set[int], serves: bool) -> None:
    assert must_serve(Membership(voters=frozenset(voters)), lost) is serves


# ---- whom the checkers see -------------------------------------------------------------

PROMISES: list[Message] = [
    RequestVote(1, 2, 5, 9, 4),
    RequestVoteReply(1, 2, 5, granted=True),
    AppendEntriesReply(1, 2, 5, success=True, match_index=3),
    HeartbeatReply(1, 2, 5, read_round=7),
]
HARMLESS: list[Message] = [
    RequestVote(1, 2, 5, 9, 4, pre_vote=True),
    RequestVoteReply(1, 2, 5, granted=False),
    AppendEntriesReply(1, 2, 5, success=False, match_index=3),
]


@pytest.mark.parametrize("loss", [Loss.EMPTIED, Loss.OLDER, Loss.FOREIGN])
@pytest.mark.parametrize("message", PROMISES, ids=lambda message: type(message).__name__)
def test_a_promise_from_a_lost_disk_that_another_node_accepts_is_a_violation(
    loss: Loss, message: Message
) -> None:
    invariants = Invariants()
    replica = invariants.replaced(Replica(1), loss)
    with pytest.raises(Violation, match=rf"node 1 \({loss.value}\) takes part: node 2 accepts"):
        invariants.accepted(replica, [message])


def test_a_node_that_takes_part_after_its_disk_was_lost_fails_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Independent of what production code does with an empty disk: this one stays as it was."""
    monkeypatch.setattr("jepsen_lite.sim.nodes.disk.Disk.empty", lambda disk: None)
    (problem,) = run(plan_of(EmptyDisk(1.0, 0.3, ("node-2",)))).problems
    assert "node 2 (its disk was emptied) takes part" in problem


def test_a_message_without_a_promise_or_of_a_node_with_its_disk_is_no_violation() -> None:
    invariants = Invariants()
    invariants.accepted(invariants.replaced(Replica(1), Loss.EMPTIED), HARMLESS)
    invariants.accepted(Replica(1), PROMISES)
    invariants.accepted(invariants.another_disk(1, Loss.TWIN), PROMISES)


def test_a_node_with_another_disk_is_another_replica() -> None:
    invariants = Invariants()
    first = Replica(1)
    second = invariants.replaced(first, Loss.OLDER)
    third = invariants.another_disk(1, Loss.TWIN)
    assert len({first, second, third}) == 3
    assert str(first) == "1"
    assert str(third) == "1 (its disk is a copy of one that runs elsewhere)"


def test_only_disks_that_can_still_vote_decide_the_membership_in_force() -> None:
    """Votes may come from nowhere else, so neither may the membership that is in force."""
    old, new = Membership(voters=frozenset({1, 2, 3})), Membership(voters=frozenset({1, 3}))
    first, second = (
        Entry(1, index, EntryKind.MEMBERSHIP, encode_membership(each))
        for index, each in enumerate((old, new), 1)
    )
    for lose in (
        lambda seen: seen.replaced(Replica(3), Loss.EMPTIED),
        lambda seen: seen.left_service(Replica(3)),
    ):
        seen = Invariants()
        seen.durable(Replica(1), HardState(1), (first,))
        seen.durable(Replica(3), HardState(1), (first, second))
        seen.another_disk(3, Loss.OLDER)
        assert seen.last_membership() == (new, False)
        lose(seen)
        assert seen.last_membership() == (old, False)


# ---- when it is not done ---------------------------------------------------------------


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize(
    ("fault", "before"),
    [
        (EmptyDisk(1.0, 0.3, ALL), ()),
        (EmptyDisk(1.0, 0.3, (NEWEST,)), ()),
        (OlderCopy(1.0, 1.9, "node-2", 0.3, restarted=True), ()),
        (OlderCopy(2.0, 4.0, "node-2", 0.3, restarted=False), ()),
        (Clone(2.5, 0.0, "node-2"), (Kill(2.0, 4.0, ("node-3",), power=True),)),
    ],
    ids=["all of them", "none", "start not noted yet", "healed before", "one is down"],
)
def test_a_fault_whose_outcome_is_not_defined_does_not_strike(
    fault: DiskFault, before: Schedule
) -> None:
    assert not under(*before, fault).faults[type(fault).__name__]


@pytest.mark.usefixtures("refused")
def test_a_copy_that_lacks_nothing_is_not_used() -> None:
    quiet = replace(plan_of(OlderCopy(1.0, 3.0, "node-2", 0.3, restarted=False)), think_s=1e6)
    assert not run(quiet).faults


@pytest.mark.usefixtures("refused")
def test_only_one_disk_of_a_run_is_lost() -> None:
    outcome = under(EmptyDisk(1.0, 0.3, ("node-2",)), EmptyDisk(2.0, 0.3, ("node-3",)))
    assert outcome.faults == {"EmptyDisk": 1}
    assert not under(EmptyDisk(1.0, 0.3, ("node-2",)), BitFlip(2.0, 0.3, "node-3")).faults[
        "BitFlip"
    ]


@pytest.mark.usefixtures("refused")
def test_a_fault_aimed_at_a_removed_node_strikes_another_member() -> None:
    gone = MemberChange(0.5, 0.0, "node-2", add=True, add_first=True)
    outcome = under(gone, EmptyDisk(4.5, 0.2, ("node-2",)))
    assert outcome.faults == {"MemberChange": 1, "EmptyDisk": 1}
    assert outcome.fault_records[-1].target in ("node-1", "node-3", "node-4")


# ---- how it is drawn -------------------------------------------------------------------


def lost_in(plan: Plan) -> list[Fault]:
    drawn = plan.founding + plan.schedule
    faults = [each.fault if isinstance(each, TriggeredFault) else each for each in drawn]
    return [each for each in faults if isinstance(each, DiskFault)]


def test_some_plain_runs_have_one_lost_disk_and_each_kind_is_drawn() -> None:
    lost = [lost_in(draw_plan(seed)) for seed in range(1, 1001)]
    assert {len(each) for each in lost} == {0, 1}
    kinds = Counter(type(each[0]) for each in lost if each)
    assert kinds.keys() == {EmptyDisk, OlderCopy, ForeignCopy, Clone}
    assert 0.8 * SHARE < kinds.total() / len(lost) < 1.2 * SHARE


def test_no_other_fault_is_active_while_a_copy_is_used() -> None:
    dense = tuple(Kill(at_s / 4, 0.5, ("node-1",), power=True) for at_s in range(1, 120))
    found: Counter[type] = Counter()
    for seed in range(1, 301):
        faults, _ = with_lost_disk(Random(seed), dense, ALL, 30.0, fair=True)
        for lost in faults:
            if isinstance(lost, OlderCopy | Clone):
                found[type(lost)] += 1
                kept = [each for each in faults if each in dense]
                assert 60 < len(kept) < len(dense)
                end_s = lost.at_s + lost.for_s
                assert not any(
                    each.at_s < end_s and lost.at_s < each.at_s + each.for_s for each in kept
                )
    assert min(found.values()) > 5


def test_no_copy_is_used_in_a_lossy_network() -> None:
    for seed in range(1, 301):
        faults, _ = with_lost_disk(Random(seed), (), ALL, 30.0, fair=False)
        assert not any(isinstance(each, OlderCopy | Clone) for each in faults)


@pytest.mark.slow
@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize(
    "draw", dict.fromkeys((*ANYWHERE, *IN_CALM)), ids=lambda draw: draw.__name__
)
def test_each_drawn_fault_takes_effect(draw: Draw) -> None:
    drawn = draw(Random(1), ALL, 5.5)
    plan = plan_of(*drawn.faults, seconds=10.0, founding=drawn.founding)
    outcome = run(plan)
    assert not outcome.problems
    kinds = {type(each).__name__ for each in lost_in(plan)}
    assert sum(outcome.faults[kind] for kind in kinds) == 1


@pytest.mark.usefixtures("refused")
def test_the_same_plan_twice_gives_the_same_history() -> None:
    for fault in (LOST[1], LOST[6]):
        first, second = (run(plan_of(fault)).history.to_lines() for _ in range(2))
        assert first == second


def test_a_cut_takes_a_node_and_its_clone() -> None:
    network = SimulatedNetwork(World(1), NetworkConditions())
    network.stand_beside("copy-of-node-3", "node-3")
    network.cut([("node-3", "node-1")])
    assert not network.reaches("copy-of-node-3", "node-1")
    assert network.reaches("node-1", "copy-of-node-3")
    network.mend([("copy-of-node-3", "node-1")])
    assert network.reaches("node-3", "node-1")
    assert network.fair

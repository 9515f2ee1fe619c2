"""`raftkv autopilot` and `raftkv drain`: judged by what the nodes of a cluster report."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Mapping

import pytest

from raftkv.cli import autopilot, client_command, drain, status
from raftkv.cli.autopilot import CONTACT_MS_MAX, LAG_ENTRIES_MAX, ClusterHealth, health_of
from raftkv.cli.client_command import Options
from raftkv.cli.exit_codes import ExitCode
from raftkv.cli.status import Overview, overview_of
from raftkv.client.model.status import Member, NodeStatus, PeerStatus, Reachability, Role
from raftkv.errors import ConnectionFailed, DeadlineExceeded, MemberUnknown, RaftkvError, Refused
from tests.cli.conftest import Raftkv
from tests.cli.test_status import LEADER

DOWN = ConnectionFailed("refused")


def reports(
    *up: int, leader: int = 1, size: int = 3, contact_ms: int = 10, lag: int = 0, learner: int = 0
) -> dict[str, NodeStatus | RaftkvError]:
    """What the nodes of a cluster answer; those that are not `up` do not answer. The contact and
    the lag are those of the last node.
    """
    members = tuple(
        Member(n, f"h{n}:7511", f"h{n}:7411", learner=n == learner) for n in range(1, size + 1)
    )
    peers = tuple(
        PeerStatus(n, Reachability.REACHABLE, contact_ms if n == size else 10, 100, "replicate")
        for n in range(1, size + 1)
        if n != leader
    )
    return {
        f"h{n}:7411": dataclasses.replace(
            LEADER,
            endpoint=f"h{n}:7411",
            node_id=n,
            role=Role.LEADER if n == leader else Role.FOLLOWER,
            leader_id=leader,
            learner=n == learner,
            commit_index=10_000,
            applied_index=10_000 - (lag if n == size else 0),
            members=members,
            peers=peers if n == leader else (),
        )
        if n in up
        else DOWN
        for n in range(1, size + 1)
    }


def health(answers: Mapping[str, NodeStatus | RaftkvError]) -> ClusterHealth:
    return health_of(overview_of(answers))


# ---- autopilot ----------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "tolerated"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)])
def test_healthy_voters_above_a_majority_may_fail(size: int, tolerated: int) -> None:
    found = health(reports(*range(1, size + 1), size=size))
    assert found.healthy
    assert (found.failures_tolerated, found.quorum) == (tolerated, size // 2 + 1)


def test_a_voter_that_is_down_is_one_failure_less() -> None:
    found = health(reports(1, 2))
    assert not found.healthy
    assert (found.healthy_voters, found.failures_tolerated) == (2, 0)
    assert [each.healthy for each in found.members] == [True, True, False]
    assert found.members[2].trouble == "unreachable: refused"


def test_without_a_majority_no_failure_is_tolerated() -> None:
    found = health(reports(3, leader=0))
    assert not found.healthy
    assert (found.leader_id, found.healthy_voters, found.failures_tolerated) == (0, 1, 0)


def test_a_learner_is_judged_and_counts_in_no_majority() -> None:
    found = health(reports(1, 2, 3, learner=3))
    assert (found.voters, found.quorum, found.failures_tolerated) == (2, 2, 0)
    assert not found.members[2].voter
    assert not health(reports(1, 2, learner=3)).healthy


@pytest.mark.parametrize(
    ("late", "words"),
    [
        (reports(1, 2, 3, lag=LAG_ENTRIES_MAX + 1), "lacks 1001 committed entries"),
        (reports(1, 2, 3, contact_ms=CONTACT_MS_MAX + 1), "last contact with it was 2.0 s ago"),
    ],
)
def test_a_voter_that_lags_or_is_not_in_contact_is_not_healthy(
    late: dict[str, NodeStatus | RaftkvError], words: str
) -> None:
    found = health(late)
    assert words in found.members[2].trouble
    assert found.failures_tolerated == 0


def test_a_lag_and_a_contact_at_the_limit_are_healthy() -> None:
    assert health(reports(1, 2, 3, lag=LAG_ENTRIES_MAX, contact_ms=CONTACT_MS_MAX)).healthy


def test_without_an_answer_nothing_is_healthy() -> None:
    found = health({"a:1": DOWN, "b:1": DOWN})
    assert not found.healthy
    assert (found.voters, found.quorum, found.failures_tolerated) == (0, 0, 0)


def test_scripts_get_json_and_an_exit_code(raftkv: Raftkv, monkeypatch: pytest.MonkeyPatch) -> None:
    for up, code in (((1, 2, 3), ExitCode.OK), ((1, 2), ExitCode.ERROR)):
        answers = reports(*up)

        async def look(
            _: Options, answers: Mapping[str, NodeStatus | RaftkvError] = answers
        ) -> Overview:
            return overview_of(answers)

        monkeypatch.setattr(autopilot, "look", look)
        ran = raftkv("autopilot", "-o", "json")
        assert ran.code == code
        assert json.loads(ran.out)["failures_tolerated"] == len(up) - 2
        assert f"{len(up)} of 3 voters are healthy" in raftkv("autopilot").text


# ---- drain --------------------------------------------------------------------------------


class Cluster:
    """Answers with `reports`; a transfer makes `next_leader` the leader, or fails."""

    def __init__(self, *up: int, leader: int = 1, size: int = 3, next_leader: int = 2) -> None:
        self.up, self.leader, self.size = up, leader, size
        self.next_leader = next_leader
        self.transfers = 0
        self.failure: RaftkvError | None = None

    async def overview(self, *_: object) -> Overview:
        return overview_of(reports(*self.up, leader=self.leader, size=self.size))

    async def transfer_leader(self, *, timeout: float) -> int:
        self.transfers += 1
        if self.failure is not None:
            raise self.failure
        self.leader = self.next_leader
        return self.leader


def drained(
    cluster: Cluster, node_id: int, monkeypatch: pytest.MonkeyPatch, wait_s: float = 0.5
) -> ClusterHealth:
    monkeypatch.setattr(drain, "overview_by", cluster.overview)
    monkeypatch.setattr(drain, "PAUSE_S", 0.01)
    return asyncio.run(drain.drained(cluster, node_id, wait_s))  # type: ignore[arg-type]


def test_a_leader_gives_the_leadership_away_before_it_may_be_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster(1, 2, 3)
    assert drained(cluster, 1, monkeypatch).leader_id == 2
    assert cluster.transfers == 1


def test_a_follower_may_be_stopped_at_once_also_if_it_is_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for cluster in (Cluster(1, 2, 3), Cluster(1, 2)):
        assert drained(cluster, 3, monkeypatch, wait_s=0).remaining(3) == {1, 2}
        assert cluster.transfers == 0


def test_without_the_node_a_majority_must_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(1, 2)
    with pytest.raises(Refused) as refused:
        drained(cluster, 1, monkeypatch, wait_s=0.05)
    assert refused.value.message == (
        "node 1 can't be stopped safely: 1 other healthy voters would remain, and a majority of the"
        " 3 voters is 2 (node 3: unreachable: refused)"
    )
    # The leader stays where it is: nothing is changed for a node that can't be stopped.
    assert cluster.transfers == 0
    with pytest.raises(Refused, match="0 other healthy voters"):
        drained(Cluster(1, size=1), 1, monkeypatch, wait_s=0)


def test_a_node_that_goes_on_leading_is_not_safe_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(1, 2, 3)
    cluster.failure = DeadlineExceeded("no voter has caught up")
    with pytest.raises(Refused, match=r"it still leads \(no voter has caught up\)"):
        drained(cluster, 1, monkeypatch, wait_s=0.05)


def test_without_a_leader_and_for_a_stranger_nothing_is_safe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(Refused, match="no healthy node leads"):
        drained(Cluster(2, 3, leader=0), 1, monkeypatch, wait_s=0)
    with pytest.raises(Refused, match="no healthy node leads"):
        drained(Cluster(2, 3), 2, monkeypatch, wait_s=0)
    with pytest.raises(MemberUnknown):
        drained(Cluster(1, 2, 3), 9, monkeypatch)


def test_the_command_says_what_remains(raftkv: Raftkv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_command, "run", lambda *_: health(reports(1, 2, 3, leader=2)))
    ran = raftkv("drain", "1", "-o", "json")
    assert ran.code == 0
    assert ran.json == {"safe_to_stop": 1, "leader": 2, "remaining_voters": 2, "quorum": 2}


def test_status_says_who_votes() -> None:
    rows = overview_of(reports(1, 2, learner=3)).nodes
    assert [row.voter for row in rows] == [True, True, False]
    assert status.overview_of({"a:1": DOWN}).nodes[0].voter is None

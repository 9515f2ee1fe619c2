"""`raftkv member`: arguments, output, and repetition after a failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace as changed
from typing import Any

import async_solipsism
import pytest

from raftkv.cli.member_replace import OUTAGE_S_MAX, Report, Wanted, replace
from raftkv.client.model.status import Member, NodeStatus
from raftkv.errors import (
    DeadlineExceeded,
    InvalidRequest,
    MembershipRefused,
    MemberUnknown,
    NoLeader,
    OutcomeUnknown,
    RaftkvError,
)
from raftkv.node import membership_changes
from raftkv.raft.entry import Address, Membership
from raftkv.versions import SUPPORTED
from tests.cli.conftest import Raftkv, talk_to
from tests.cli.test_status import LEADER

ADDRESSES = {each: Address(f"127.0.0.1:751{each}", f"127.0.0.1:741{each}") for each in (1, 2, 3)}
PEER, CLIENT = "127.0.0.1:7514", "127.0.0.1:7414"
SERVE = (
    f"raftkv serve --node-id 4 --join 127.0.0.1:7411 --peer-listen {PEER} --client-listen {CLIENT}"
)


class FakeCluster:
    """Changes a membership as the nodes do; `answers` come first, one for each replacement."""

    endpoints = ("127.0.0.1:7419",)

    def __init__(self, *answers: RaftkvError) -> None:
        self.membership = Membership(
            voters=frozenset(ADDRESSES),
            addresses=ADDRESSES,
            disk_ids={each: each for each in ADDRESSES},
        )
        self.answers = list(answers)
        self.calls: list[tuple[Any, ...]] = []
        self.starts_when_asked = True

    def start(self, node_id: int) -> None:
        address = self.membership.addresses[node_id]
        self._change(membership_changes.Claim(node_id, node_id, SUPPORTED, address))

    def _change(self, change: membership_changes.MembershipChange) -> tuple[Member, ...]:
        target = change.target(self.membership)
        gone = self.membership.members - target.members
        self.membership = changed(target, removed=target.removed | gone)
        return self._members()

    def _members(self) -> tuple[Member, ...]:
        present = self.membership
        return tuple(
            Member(
                node_id, at.peer, at.client, node_id in present.learners, present.started(node_id)
            )
            for node_id, at in sorted(present.addresses.items())
        )

    async def member_list(self, *, timeout: float | None = None) -> tuple[Member, ...]:
        return self._members()

    async def member_add(
        self, node_id: int, peer: str, client: str, *, force: bool, timeout: float | None = None
    ) -> tuple[Member, ...]:
        self.calls.append(("add", node_id, force))
        return self._change(membership_changes.AddLearner(node_id, Address(peer, client), force))

    async def member_promote(self, node_id: int, *, force: bool) -> tuple[Member, ...]:
        self.calls.append(("promote", node_id, force))
        return self._members()

    async def member_remove(self, node_id: int, *, force: bool) -> tuple[Member, ...]:
        self.calls.append(("remove", node_id, force))
        return self._change(membership_changes.Remove(node_id))

    async def member_replace(
        self, old_id: int, new_id: int, *, force: bool, timeout: float
    ) -> tuple[Member, ...]:
        self.calls.append(("replace", old_id, new_id, force))
        change = membership_changes.Replace(old_id, new_id)
        if change.done_before(self.membership):
            return self._members()
        if self.answers:
            raise self.answers.pop(0)
        try:
            return self._change(change)
        except MembershipRefused as refused:
            if refused.facts.get("started") == "False" and self.starts_when_asked:
                self.start(new_id)
            raise

    async def member_update(
        self, node_id: int, *, peer_address: str, client_address: str
    ) -> tuple[Member, ...]:
        return self._change(
            membership_changes.UpdateAddress(node_id, Address(peer_address, client_address))
        )

    async def status_all(self, *, timeout: float) -> Mapping[str, NodeStatus | RaftkvError]:
        leader = changed(LEADER, members=self._members())
        return {"127.0.0.1:7412": NoLeader("down"), "a-name-for-node-1:7411": leader}


def run(
    cluster: FakeCluster,
    *,
    addresses: tuple[str, str] = (PEER, CLIENT),
    ids: tuple[int, int] = (2, 4),
    timeout_s: float | None = None,
    force: bool = False,
) -> tuple[tuple[Member, ...], float]:
    """Replace on virtual time; the members, and how long it took."""
    loop = async_solipsism.EventLoop()
    wanted = Wanted(*ids, *addresses, force, timeout_s)

    async def timed() -> tuple[tuple[Member, ...], float]:
        made = await replace(cluster, wanted, Report())  # type: ignore[arg-type]
        return made, loop.time()

    try:
        return loop.run_until_complete(timed())
    finally:
        loop.close()


def lag(entries: int) -> MembershipRefused:
    return MembershipRefused("it lags", retry_after_s=0.5, lag=entries, replication="snapshot")


def test_replace_adds_the_new_node_waits_for_it_and_replaces_the_old_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster = FakeCluster()
    made, _ = run(cluster)
    assert [(each.node_id, each.learner) for each in made] == [(1, False), (3, False), (4, False)]
    assert cluster.calls == [("add", 4, False), ("replace", 2, 4, False), ("replace", 2, 4, False)]
    said = capsys.readouterr().err
    assert said.count(SERVE) == 1
    assert said.endswith(f"Now start it, and leave this command running: {SERVE}\n")


def test_without_a_terminal_no_progress_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster = FakeCluster(lag(900), lag(300))
    _, took_s = run(cluster)
    assert took_s >= 1.0
    assert "lacks" not in capsys.readouterr().err


def test_on_a_terminal_the_lag_is_shown_on_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    run(FakeCluster(lag(900), lag(300)))
    said = capsys.readouterr().err
    first = "\r\x1b[Knode 4 catches up: it lacks 900 entries, a snapshot is on its way"
    assert f"{first}\r\x1b[Knode 4 catches up: it lacks 300 entries" in said
    assert said.endswith("\r\x1b[K")


def test_a_repeated_replace_continues_where_it_was_interrupted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster = FakeCluster()
    cluster.starts_when_asked = False
    with pytest.raises(DeadlineExceeded, match=r"node 2 was not replaced within 3 s .*repeat this"):
        run(cluster, timeout_s=3.0)
    assert cluster.membership.learners == {4}
    cluster.start(4)
    capsys.readouterr()
    made, _ = run(cluster, addresses=("", ""))
    assert [each.node_id for each in made] == [1, 3, 4]
    assert capsys.readouterr().err == ""
    assert run(cluster)[0] == made  # and once more, after it was done


def test_with_a_timeout_of_0_replace_tries_once() -> None:
    cluster = FakeCluster()
    cluster.starts_when_asked = False
    with pytest.raises(DeadlineExceeded, match="repeat this"):
        run(cluster, timeout_s=0.0)
    assert cluster.membership.learners == {4}


def test_a_repeated_replace_shows_the_start_command_of_a_node_that_has_not_started(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster = FakeCluster()
    cluster._change(membership_changes.AddLearner(4, Address(PEER, CLIENT)))
    run(cluster, addresses=("", ""))
    assert SERVE in capsys.readouterr().err


def test_off_loopback_the_start_command_allows_an_insecure_network(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(FakeCluster(), addresses=("10.0.0.4:7511", "10.0.0.4:7411"), force=True)
    assert "--client-listen 10.0.0.4:7411 --allow-insecure-network" in capsys.readouterr().err


def test_replace_survives_a_lost_reply_and_a_moment_without_a_leader() -> None:
    other_change = MembershipRefused("another change is under way", retry_after_s=0.5)
    cluster = FakeCluster(OutcomeUnknown("no answer"), NoLeader("electing"), other_change)
    made, _ = run(cluster)
    assert [each.node_id for each in made] == [1, 3, 4]


def test_a_long_outage_ends_replace() -> None:
    cluster = FakeCluster(*[NoLeader("no leader is known")] * 1000)
    with pytest.raises(NoLeader):
        run(cluster)
    assert len(cluster.answers) > 1000 - 3 * OUTAGE_S_MAX


def test_a_timeout_after_an_unknown_outcome_is_reported_as_unknown() -> None:
    cluster = FakeCluster(*[OutcomeUnknown("no answer")] * 100)
    with pytest.raises(OutcomeUnknown):
        run(cluster, timeout_s=2.0)


@pytest.mark.parametrize(
    "answer", [MembershipRefused("2 of 3 voters acknowledge ..."), MemberUnknown("who is 2?")]
)
def test_a_final_refusal_is_raised_at_once(answer: RaftkvError) -> None:
    with pytest.raises(type(answer)) as refused:
        run(FakeCluster(answer))
    assert refused.value is answer


def test_missing_or_different_addresses_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="say with --peer and --client"):
        run(FakeCluster(), addresses=(PEER, ""))
    cluster = FakeCluster()
    cluster._change(membership_changes.AddLearner(4, Address(PEER, "127.0.0.1:7999")))
    with pytest.raises(InvalidRequest, match=r"already, at .*7999 for clients; leave --peer"):
        run(cluster)


def test_no_node_is_added_to_replace_a_node_that_is_no_member() -> None:
    cluster = FakeCluster()
    with pytest.raises(MemberUnknown):
        run(cluster, ids=(9, 4))
    assert ("add", 4, False) not in cluster.calls


# The commands.


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    fake = FakeCluster()
    talk_to(fake, monkeypatch)
    return fake


def test_the_list_shows_which_members_have_started(raftkv: Raftkv, cluster: FakeCluster) -> None:
    added = raftkv("member", "add", "4", "--peer", PEER, "--client", CLIENT)
    assert added.text.splitlines()[-1].split("\t") == ["4", PEER, CLIENT, "learner", "not started"]
    assert SERVE in added.err
    assert "raftkv member promote 4" in added.err
    shown = raftkv("member", "list", "-o", "json").json["members"]
    assert [each["started"] for each in shown] == [True, True, True, False]


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_force_is_passed_on(raftkv: Raftkv, cluster: FakeCluster, force: tuple[str, ...]) -> None:
    raftkv("member", "add", "4", "--peer", PEER, "--client", CLIENT, *force)
    raftkv("member", "promote", "4", *force)
    raftkv("member", "remove", "3", *force)
    cluster.start(4)
    replaced = raftkv("member", "replace", "2", "4", *force)
    assert (replaced.code, replaced.err) == (0, "")
    assert [line.split("\t")[0] for line in replaced.text.splitlines()] == ["1", "4"]
    assert [call[-1] for call in cluster.calls] == [bool(force)] * 4


def test_an_address_is_changed(raftkv: Raftkv, cluster: FakeCluster) -> None:
    updated = raftkv("member", "update", "3", "--client", "127.0.0.1:7999")
    assert "127.0.0.1:7513\t127.0.0.1:7999" in updated.text
    nothing = raftkv("member", "update", "3")
    assert (nothing.code, nothing.text) == (2, "")
    assert "--peer" in nothing.err

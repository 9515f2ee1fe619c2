"""`raftkv status` combines the reports of all nodes that answer."""

from __future__ import annotations

import dataclasses
import json

import pytest

from raftkv.cli.client_command import Output
from raftkv.cli.output import duration, size
from raftkv.cli.status import causes, cells, headline, overview_of, show
from raftkv.client.model.status import Member, NodeStatus, PeerStatus, Reachability, Role
from raftkv.errors import ConnectionFailed, WrongCluster

MEMBERS = tuple(Member(n, f"h{n}:7511", f"h{n}:7411", learner=n == 3) for n in (1, 2, 3))
LEADER = NodeStatus(
    endpoint="h1:7411",
    cluster_id=0xABC,
    node_id=1,
    term=4,
    revision=90,
    version="0.1.0",
    role=Role.LEADER,
    leader_id=1,
    commit_index=100,
    applied_index=100,
    last_log_index=101,
    first_log_index=1,
    compacted_revision=0,
    cluster_time_ms=1,
    disk_bytes=3 << 20,
    disk_free_bytes=5 << 30,
    memory_bytes=80 << 20,
    uptime_ms=65_000,
    learner=False,
    members=MEMBERS,
    peers=(
        PeerStatus(2, Reachability.REACHABLE, 40, 100, "replicate"),
        PeerStatus(3, Reachability.UNREACHABLE, 9_000, 50, "probe"),
    ),
    cluster_version=1,
)
FOLLOWER = dataclasses.replace(
    LEADER, endpoint="h2:7411", node_id=2, role=Role.FOLLOWER, applied_index=93, peers=()
)


def test_every_member_has_a_row_also_one_that_does_not_answer() -> None:
    overview = overview_of(
        {"h1:7411": LEADER, "h2:7411": FOLLOWER, "h3:7411": ConnectionFailed("refused")}
    )
    assert (overview.leader_id, overview.term, overview.revision) == (1, 4, 90)
    assert [row.role for row in overview.nodes] == ["leader", "follower", "unreachable"]
    assert [row.lag_entries for row in overview.nodes] == [0, 7, None]
    assert [row.last_contact_ms for row in overview.nodes] == [None, 40, 9_000]
    assert overview.nodes[2].error == "refused"
    assert "leader: node 1" in headline(overview)


def test_in_a_pipe_columns_have_names_and_unreachable_nodes_a_cause(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(overview_of({"h1:7411": LEADER, "h3:7411": ConnectionFailed("refused")}), Output.TABLE)
    heading, one, two, three = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert heading[:3] == ["id", "address", "role"]
    assert heading[-2:] == ["error", "notice"]
    assert len({*map(len, (heading, one, two, three))}) == 1
    assert [row[-2] for row in (one, two, three)] == ["-", "not asked", "refused"]


def test_the_reasons_of_a_node_that_does_not_serve_and_notices_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    waits = dataclasses.replace(FOLLOWER, not_serving="waits for node 3", notice="damaged tables")
    overview = overview_of({"h1:7411": LEADER, "h2:7411": waits})
    assert causes(overview)[:2] == [
        "node 2: serves nothing: waits for node 3",
        "node 2: damaged tables",
    ]
    show(overview, Output.TABLE)
    row = capsys.readouterr().out.splitlines()[2].split("\t")
    assert row[-2:] == ["waits for node 3", "damaged tables"]
    show(overview, Output.JSON)
    shown = json.loads(capsys.readouterr().out)["nodes"][1]
    assert (shown["not_serving"], shown["notice"]) == ("waits for node 3", "damaged tables")


def test_a_member_that_has_not_started_is_not_shown_as_unreachable() -> None:
    added = Member(4, "h4:7511", "h4:7411", learner=True, started=False)
    leader = dataclasses.replace(LEADER, members=(*MEMBERS, added))
    rows = overview_of({"h1:7411": leader, "h4:7411": ConnectionFailed("refused")}).nodes
    assert [row.role for row in rows[2:]] == ["unreachable", "not started"]


def test_the_headline_has_the_cluster_version() -> None:
    assert "version 1 " in headline(overview_of({"h1:7411": LEADER}))


def test_the_headline_has_the_oldest_revision_that_can_be_read() -> None:
    assert "history complete" in headline(overview_of({"h1:7411": LEADER}))
    ahead = dataclasses.replace(FOLLOWER, compacted_revision=40)
    assert "history from revision 40" in headline(
        overview_of({"h1:7411": LEADER, "h2:7411": ahead})
    )


def test_on_a_terminal_the_causes_are_below_the_table() -> None:
    overview = overview_of({"h1:7411": LEADER, "h3:7411": ConnectionFailed("refused")})
    assert causes(overview) == ["node 2: not asked", "node 3: refused"]
    no = ConnectionFailed("no")
    assert causes(overview_of({"a:1": no})) == ["a:1: no"]
    assert causes(overview_of({"a:1": no, "b:1": no})) == ["no"]


def test_an_endpoint_that_is_no_member_gets_no_row() -> None:
    overview = overview_of({"h1:7411": LEADER, "elsewhere:1": ConnectionFailed("refused")})
    assert [row.node_id for row in overview.nodes] == [1, 2, 3]


def test_a_deposed_leader_of_a_lower_term_is_not_shown_as_the_leader() -> None:
    old = dataclasses.replace(LEADER, endpoint="h3:7411", node_id=3, term=3, leader_id=3)
    new = dataclasses.replace(LEADER, term=4)
    assert overview_of({"h3:7411": old, "h1:7411": new}).leader_id == 1


def test_without_any_answer_the_endpoints_are_shown_as_unreachable() -> None:
    overview = overview_of({"a:1": ConnectionFailed("no"), "b:1": ConnectionFailed("no")})
    assert overview.leader_id == 0
    assert [(row.address, row.role) for row in overview.nodes] == [
        ("a:1", "unreachable"),
        ("b:1", "unreachable"),
    ]
    assert headline(overview) == "no node answers"


def test_a_learner_is_shown_as_one() -> None:
    learner = dataclasses.replace(FOLLOWER, node_id=3, endpoint="h3:7411", learner=True)
    assert overview_of({"h1:7411": LEADER, "h3:7411": learner}).nodes[2].role == "learner"


def test_nodes_of_two_clusters_are_an_error() -> None:
    with pytest.raises(WrongCluster, match="answers for another"):
        overview_of({"h1:7411": LEADER, "h2:7411": WrongCluster("h2 answers for another")})


def test_json_has_the_incarnation_of_the_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    show(overview_of({"h1:7411": dataclasses.replace(LEADER, incarnation=0xF00D)}), Output.JSON)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["cluster_id"], shown["incarnation"]) == (f"{0xABC:016x}", f"{0xF00D:016x}")


def test_a_row_is_readable() -> None:
    row = overview_of({"h1:7411": LEADER}).nodes[0]
    assert cells(row) == [
        *("1", "h1:7411", "leader", "4", "100", "100", "0", "-"),
        *("3.0 MiB", "80.0 MiB", "5.0 GiB", "65.0 s"),
    ]


def test_sizes_and_durations_have_units() -> None:
    assert [size(n) for n in (0, 999, 1023, 520 << 10, 1 << 40)] == [
        *("0 B", "999 B", "1.0 KiB", "520 KiB", "1.0 TiB")
    ]
    assert [duration(ms) for ms in (5, 1_500, 600_000, 7_200_000)] == [
        *("5 ms", "1.5 s", "10 min", "2.0 h")
    ]

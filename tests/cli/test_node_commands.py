"""`serve`, `dev` and `config show` before any node runs."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path

import pytest

from raftkv.cli.dev_terminal import after_its_death, own_leader
from raftkv.cli.local_cluster import local_cluster, node_environment
from raftkv.cli.serve import check_free
from raftkv.client.model.status import Member, NodeStatus
from raftkv.config_sources import load, parse_members
from raftkv.errors import AddressInUse, ConfigurationError, ConnectionFailed, RaftkvError
from tests.cli.conftest import Raftkv
from tests.cli.test_status import FOLLOWER, LEADER


def test_config_show_names_the_origin_of_each_value(raftkv: Raftkv, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text("tick_ms = 20\n")
    shown = raftkv(
        *("config", "show", "--origin", "--config", str(file), "--set", "heartbeat_ticks=3"),
        *("--output", "json"),
        env={"RAFTKV_NODE_ID": "2"},
    ).json
    assert shown["tick_ms"] == {"value": "20", "origin": f"file {file}"}
    assert shown["heartbeat_ticks"] == {"value": "3", "origin": "flag --set heartbeat_ticks"}
    assert shown["node_id"] == {"value": "2", "origin": "environment RAFTKV_NODE_ID"}
    assert shown["client_listen"] == {"value": "127.0.0.1:7412", "origin": "derived"}
    assert shown["limits.key_bytes_max"] == {"value": "8192", "origin": "default"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "tick_mss=5"], "did you mean tick_ms"),
        (["--set", "tick_ms"], "--set name=value"),
        (["--node-id", "one"], "node_id"),
        (["--client-listen", "0.0.0.0:7411"], "allow_insecure_network"),
        (["--config", "/nowhere.toml"], "does not exist"),
    ],
)
def test_serve_refuses_a_bad_setting_with_code_2(
    raftkv: Raftkv, arguments: list[str], says: str
) -> None:
    ran = raftkv("serve", *arguments)
    assert ran.code == 2
    assert says in ran.err
    assert "Fix: " in ran.err


def test_a_port_in_use_is_named_with_its_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(AddressInUse, match=f"client_listen {address} is in use.*Fix: "):
            check_free("client_listen", address)
    check_free("client_listen", address)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"peer_listen 192\.0\.2\.1:7511 can't be"):
        check_free("peer_listen", "192.0.2.1:7511")


def test_the_nodes_of_a_local_cluster_agree_on_its_identity(tmp_path: Path) -> None:
    nodes = local_cluster([7411, 7412, 7413], [7511, 7512, 7513], tmp_path, "dev")
    settings = [
        load(
            None,
            {},
            {
                "node_id": str(node.node_id),
                "cluster_name": node.cluster_name,
                "initial_members": node.initial_members,
            },
        ).settings
        for node in nodes
    ]
    assert len({each.cluster_id for each in settings}) == 1
    assert [each.client_listen for each in settings] == [node.client_address for node in nodes]
    assert parse_members(nodes[0].initial_members).keys() == {1, 2, 3}


def test_ports_that_collide_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="one of its own"):
        local_cluster([7411, 7412], [7412, 7413], tmp_path, "dev")


def test_dev_starts_nothing_if_ports_are_in_use_and_names_all_of_them(
    raftkv: Raftkv, tmp_path: Path
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        client, peer = one.getsockname()[1], two.getsockname()[1]
        ran = raftkv(
            *("dev", "--nodes", "1", "--data-dir", str(tmp_path / "data")),
            *("--client-port", str(client), "--peer-port", str(peer)),
        )
    assert (ran.code, ran.text) == (2, "")
    for said in (f"127.0.0.1:{client}, 127.0.0.1:{peer}", "`raftkv dev`", "--client-port"):
        assert said in ran.err
    assert not (tmp_path / "data").exists()


def test_dev_refuses_temporary_together_with_a_data_directory(raftkv: Raftkv) -> None:
    ran = raftkv("dev", "--temporary", "--data-dir", "elsewhere")
    assert (ran.code, ran.text) == (2, "")
    assert "--temporary and --data-dir exclude each other" in ran.err


@pytest.mark.parametrize(
    ("voters", "said"),
    [
        (1, "no node is left until you start it again"),
        (2, "nothing is served until it is back"),
        (3, "another takes over"),
    ],
)
def test_dev_prints_what_the_death_of_the_leader_causes(voters: int, said: str) -> None:
    members = tuple(Member(n, f"h:{n}", f"h:1{n}", learner=n > voters) for n in range(1, 5))
    assert said in after_its_death(dataclasses.replace(LEADER, members=members))


def test_dev_announces_no_leader_but_its_own() -> None:
    """Two started at once: what answers may be the other's, and up for longer than ours."""
    assert own_leader([LEADER], {}) is None
    assert own_leader([LEADER], {LEADER.node_id: LEADER.uptime_ms - 1}) is None
    assert own_leader([FOLLOWER], {FOLLOWER.node_id: FOLLOWER.uptime_ms}) is None
    answers: list[NodeStatus | RaftkvError] = [ConnectionFailed("refused"), FOLLOWER, LEADER]
    assert own_leader(answers, {LEADER.node_id: LEADER.uptime_ms}) is LEADER


def test_a_node_of_dev_sees_no_settings_of_the_users_environment() -> None:
    assert node_environment({"RAFTKV_JOIN": "x:1", "PATH": "/bin"}) == {"PATH": "/bin"}

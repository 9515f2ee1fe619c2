"""Valid settings start a node; invalid ones raise an error with the fix."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from raftkv.config import BATCH_BYTES_MAX, Settings, split_address
from raftkv.errors import ConfigurationError
from raftkv.kv.limits import Limits
from raftkv.peer.grpc_options import MESSAGE_BYTES_MAX
from raftkv.peer.outbox import CONTROL_BYTES_MAX
from raftkv.raft.entry import Address

THREE = {n: Address(f"127.0.0.1:{7510 + n}", f"127.0.0.1:{7410 + n}") for n in (1, 2, 3)}


def test_without_any_setting_a_node_is_a_cluster_of_its_own() -> None:
    settings = Settings()
    assert settings.client_listen == settings.client_advertise == "127.0.0.1:7411"
    assert settings.peer_listen == settings.peer_advertise == "127.0.0.1:7511"
    assert settings.initial_members == {1: Address("127.0.0.1:7511", "127.0.0.1:7411")}
    assert settings.data_dir == Path("data/node-1")


def test_a_node_takes_its_addresses_from_the_list_of_members() -> None:
    settings = Settings(node_id=2, initial_members=THREE)
    assert settings.peer_listen == settings.peer_advertise == "127.0.0.1:7512"
    assert settings.client_listen == "127.0.0.1:7412"


def test_all_nodes_of_a_cluster_compute_the_same_identity() -> None:
    backwards = dict(reversed(THREE.items()))
    first = Settings(node_id=1, initial_members=THREE)
    third = Settings(node_id=3, initial_members=backwards)
    assert first.cluster_id == third.cluster_id
    assert 0 < first.cluster_id < 2**64


def test_clusters_with_different_names_have_different_ids_whatever_their_members() -> None:
    named, other = Settings(initial_members=THREE), Settings(cluster_name="other")
    assert named.cluster_id != other.cluster_id
    # Clusters of one name differ by their incarnations: members and addresses may change.
    assert named.cluster_id == Settings().cluster_id


def test_a_batch_fits_into_one_message_between_nodes() -> None:
    assert BATCH_BYTES_MAX + CONTROL_BYTES_MAX < MESSAGE_BYTES_MAX
    Settings(limits=Limits(batch_bytes_max=BATCH_BYTES_MAX))
    with pytest.raises(ConfigurationError, match=r"limits\.batch_bytes_max .* Fix: lower it"):
        Settings(limits=Limits(batch_bytes_max=BATCH_BYTES_MAX + 1))


def test_settings_cannot_be_changed() -> None:
    settings = Settings(initial_members=THREE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.node_id = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.initial_members[4] = THREE[1]  # type: ignore[index]


def test_a_node_listens_off_loopback_only_with_allow_insecure_network() -> None:
    open_to_all: dict[str, Any] = {
        "client_listen": "0.0.0.0:7411",
        "client_advertise": "db1:7411",
        "peer_listen": "[::]:7511",
        "peer_advertise": "db1:7511",
        "cluster_secret_file": "secret",
    }
    with pytest.raises(ConfigurationError, match="allow_insecure_network"):
        Settings(**open_to_all)
    assert Settings(**open_to_all, allow_insecure_network=True).client_advertise == "db1:7411"


@pytest.mark.parametrize("peer_listen", ["0.0.0.0:7511", "[::]:7511", "db1:7511"])
def test_a_peer_port_off_loopback_requires_a_secret(peer_listen: str) -> None:
    arguments: dict[str, Any] = {
        "peer_listen": peer_listen,
        "peer_advertise": "db1:7511",
        "allow_insecure_network": True,
    }
    with pytest.raises(ConfigurationError, match="raftkv secret new") as caught:
        Settings(**arguments)
    assert caught.value.facts["key"] == "peer_listen"
    assert Settings(**arguments, cluster_secret_file="secret").peer_listen == peer_listen


def test_the_http_port_is_on_loopback_unless_it_is_set_or_off() -> None:
    assert Settings(node_id=2).http_listen == "127.0.0.1:7612"
    assert Settings(http_listen="[::1]:80").http_listen == "[::1]:80"
    assert not Settings(http_listen="off").has_http_port
    # A node whose id gives no port starts as it did before there was one.
    large = {"client_listen": "127.0.0.1:1", "peer_listen": "127.0.0.1:2"}
    assert not Settings(node_id=60_000, **large).has_http_port  # type: ignore[arg-type]


def test_the_http_port_is_off_loopback_with_tls_or_on_a_trusted_network_only() -> None:
    open_to_all = {"http_listen": "0.0.0.0:7611"}
    with pytest.raises(ConfigurationError, match="client_cert_file") as caught:
        Settings(**open_to_all)  # type: ignore[arg-type]
    assert caught.value.facts["key"] == "http_listen"
    trusted: Any = {**open_to_all, "allow_insecure_network": True}
    assert not Settings(**trusted).http_tls
    secured: Any = {"client_cert_file": "c.pem", "client_key_file": "c.key"}
    assert Settings(**open_to_all, **secured).http_tls
    assert not Settings(**secured).http_tls  # on loopback


def test_a_client_port_off_loopback_needs_no_secret() -> None:
    settings = Settings(client_listen="db1:7411", allow_insecure_network=True)
    assert not settings.cluster_secret_file


def test_members_that_do_not_name_this_node_are_hints_of_a_node_that_has_its_disk() -> None:
    elsewhere = Settings(node_id=4, initial_members=THREE)
    assert elsewhere.initial_members.keys() == THREE.keys()
    moved = Settings(initial_members=THREE, peer_advertise="db1:7511")
    assert moved.advertised == Address("db1:7511", "127.0.0.1:7411")


@pytest.mark.parametrize(
    ("text", "ids"), [("", set()), ("3", {3}), (" 2 ,3", {2, 3}), ("2,,3,", {2, 3})]
)
def test_bootstrap_without_is_a_list_of_ids(text: str, ids: set[int]) -> None:
    assert Settings(initial_members=THREE, bootstrap_without=text).bootstrap_without_ids == ids


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"node_id": 4, "initial_members": THREE}, "initial_members"),
        ({"peer_advertise": "db1:7511", "initial_members": THREE}, "initial_members"),
        ({"client_advertise": "db1:7411", "initial_members": THREE}, "initial_members"),
        ({"initial_members": THREE, "bootstrap_without": "4"}, "bootstrap_without"),
        ({"initial_members": THREE, "bootstrap_without": "1"}, "bootstrap_without"),
    ],
)
def test_a_node_with_an_empty_disk_must_be_one_of_the_founders(
    arguments: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"must be .* Fix: ") as caught:
        Settings(**arguments).require_founder()
    assert caught.value.facts["key"] == key


def test_founders_are_the_listed_members_without_the_excluded_ones() -> None:
    Settings().require_founder()
    Settings(node_id=2, initial_members=THREE).require_founder()
    Settings(node_id=2, initial_members=THREE, bootstrap_without="1,3").require_founder()


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"node_id": 0}, "node_id"),
        ({"node_id": 60_000}, "client_listen"),
        ({"tick_ms": 1}, "tick_ms"),
        ({"election_ticks_min": 2, "heartbeat_ticks": 2}, "election_ticks_min"),
        ({"election_ticks_max": 10}, "election_ticks_max"),
        ({"request_timeout_ms_max": 4_999}, "request_timeout_ms_max"),
        ({"log_level": "loud"}, "log_level"),
        ({"log_format": "xml"}, "log_format"),
        ({"cluster_name": " "}, "cluster_name"),
        ({"client_listen": "localhost"}, "client_listen"),
        ({"client_listen": "192.0.2.1:7411"}, "client_listen"),
        ({"peer_listen": "127.0.0.1:7411"}, "peer_listen"),
        ({"http_listen": "127.0.0.1:7411"}, "http_listen"),
        ({"http_listen": "127.0.0.1:7511"}, "http_listen"),
        ({"http_listen": "7611"}, "http_listen"),
        ({"peer_advertise": "0.0.0.0:7511"}, "peer_advertise"),
        ({"join": "nowhere"}, "join"),
        ({"join": "127.0.0.1:7411", "initial_members": THREE}, "join"),
        ({"bootstrap_without": "one"}, "bootstrap_without"),
        ({"bootstrap_without": "-1"}, "bootstrap_without"),
        ({"bootstrap_without": "\u00b2"}, "bootstrap_without"),
        ({"bootstrap_without": "9" * 5000}, "bootstrap_without"),
        ({"node_id": 1, "initial_members": {**THREE, 0: THREE[1]}}, "initial_members"),
        ({"node_id": 1, "initial_members": {**THREE, 4: Address("x", "y")}}, "initial_members"),
    ],
)
def test_a_setting_that_cannot_work_is_named_with_its_limit_and_fix(
    arguments: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"must be .* Fix: ") as caught:
        Settings(**arguments)
    assert caught.value.facts["key"] == key


@pytest.mark.parametrize(
    ("members", "said"), [(THREE, "is a list of nodes 1, 2, 3"), ({1: THREE[1]}, "is node 1 alone")]
)
def test_the_error_for_a_node_that_is_not_in_the_list_names_the_listed_ones(
    members: dict[int, Address], said: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings(node_id=5, initial_members=members).require_founder()
    assert f"{said}, but must be a list with this node, 5, in it. Fix: " in caught.value.message


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:7411", ("127.0.0.1", 7411)),
        ("db-1.example.org:1", ("db-1.example.org", 1)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, parts: tuple[str, int]) -> None:
    assert split_address("join", address) == parts


@pytest.mark.parametrize(
    "address",
    [
        *("", "host", ":7411", "host:", "host:0", "host:65536", "host:+1", "::1:7411"),
        *("a b:1", "x/y:1", "host:" + "9" * 5000, "::1", "[::1]", "[host]:1", "[::1:1"),
    ],
)
def test_an_address_without_host_and_port_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="host:port"):
        split_address("join", address)


def test_an_ipv6_address_without_brackets_is_refused_with_the_form_to_write() -> None:
    with pytest.raises(ConfigurationError, match=r"Fix: .*write \[::1\]:7511\.$"):
        split_address("peer_listen", "::1:7511")

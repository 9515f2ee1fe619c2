"""Which addresses a member can have."""

from __future__ import annotations

import pytest

from raftkv.errors import InvalidRequest, MembershipRefused
from raftkv.node.addresses import (
    is_loopback,
    require_connectable,
    require_free,
    require_same_network,
)
from raftkv.raft.entry import Address, Membership


def membership(*addresses: tuple[str, str]) -> Membership:
    """Voters 1, 2, ... at these peer and client addresses."""
    known = {node_id: Address(*each) for node_id, each in enumerate(addresses, start=1)}
    return Membership(voters=frozenset(known), addresses=known)


NETWORK = membership(("10.0.0.1:7511", "10.0.0.1:7411"), ("node2:7511", "node2:7411"))
LOOPBACK = membership(("127.0.0.1:7511", "127.0.0.1:7411"), ("[::1]:7512", "localhost:7412"))
# As in docker-compose.yml: nodes by their names, clients from this machine alone.
MIXED_KINDS = membership(("node1:7511", "127.0.0.1:7411"), ("node2:7511", "127.0.0.1:7412"))


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0:7511", "[::]:7511", "*:7511", "[::ffff:0.0.0.0]:7511", "0:7511", "127.1:7511"),
        *("10.0.0.1:0", "10.0.0.1", "10.0.0.1:port", "10.0.0.1:65536", ":7511", "a b:7511"),
        *("224.0.0.1:7511", "[ff02::1]:7511", "255.255.255.255:7511", "[fe80::1]:7511"),
        *("10.0.0.256:7511", "10.0.0:7511", "0x7f000001:7511", "*.example.com:7511"),
    ],
)
def test_an_address_that_no_node_takes_is_refused_with_field_and_fix(address: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^member\.peer_address is .*Fix: "):
        require_connectable("member.peer_address", address)


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1:7511", "[2001:db8::1]:7511", "127.0.0.1:1", "[::1]:65535", "localhost:7511"),
        *("node-4:7511", "node_4:7511", "node4.example.com.:7511", "4node:7511", "10.example:7511"),
    ],
)
def test_an_address_of_a_machine_is_taken(address: str) -> None:
    require_connectable("member.peer_address", address)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (Address("10.0.0.1:7511", "n:1"), "10.0.0.1:7511 is the peer address of node 1"),
        (Address("n:1", "10.0.0.1:7411"), "10.0.0.1:7411 is the client address of node 1"),
        (Address("10.0.0.1:7411", "n:1"), "10.0.0.1:7411 is the client address of node 1"),
        (Address("n:1", "NODE2.:07511"), "NODE2.:07511 is the peer address of node 2"),
        (Address("n:1", "n:1"), "n:1 is given for both peers and clients of node 4"),
    ],
)
def test_an_address_is_used_once_for_peers_or_clients(address: Address, said: str) -> None:
    with pytest.raises(MembershipRefused, match=f"^{said}.*: give "):
        require_free(NETWORK, 4, address)


def test_names_of_loopback_are_equal_addresses() -> None:
    with pytest.raises(MembershipRefused, match="node 1 already"):
        require_free(LOOPBACK, 4, Address("localhost:7511", "127.0.0.1:1"))
    with pytest.raises(MembershipRefused, match="node 2 already"):
        require_free(LOOPBACK, 4, Address("[0:0::1]:7512", "127.0.0.1:1"))


def test_a_member_keeps_its_own_address() -> None:
    require_free(NETWORK, 1, NETWORK.addresses[1])


@pytest.mark.parametrize("may_leave_loopback", [True, False])
def test_a_loopback_address_among_others_is_refused(may_leave_loopback: bool) -> None:
    with pytest.raises(MembershipRefused, match=r"127\.0\.0\.1:7514 of node 4 is loopback, .*Fix"):
        require_same_network(
            NETWORK,
            4,
            Address("127.0.0.1:7514", "10.0.0.4:7414"),
            may_leave_loopback=may_leave_loopback,
        )


def test_another_address_among_loopback_is_refused_unless_that_is_how_a_cluster_moves() -> None:
    away = Address("10.0.0.4:7514", "127.0.0.1:7414")
    with pytest.raises(MembershipRefused, match=r"on loopback \(peer address 127\.0\.0\.1:7511\)"):
        require_same_network(LOOPBACK, 4, away, may_leave_loopback=False)
    require_same_network(LOOPBACK, 4, away, may_leave_loopback=True)


def test_peer_and_client_addresses_are_validated_separately() -> None:
    wanted = Address("node4:7511", "127.0.0.1:7414")
    require_same_network(MIXED_KINDS, 4, wanted, may_leave_loopback=False)


def test_a_cluster_of_one_may_have_any_address() -> None:
    alone = membership(("127.0.0.1:7511", "127.0.0.1:7411"))
    require_same_network(alone, 1, Address("10.0.0.1:1", "10.0.0.1:2"), may_leave_loopback=False)


def test_loopback_addresses_are_recognised() -> None:
    assert all(map(is_loopback, ("127.0.0.1:1", "[::1]:1", "localhost:1", "[::ffff:127.0.0.9]:1")))
    assert not any(map(is_loopback, ("10.0.0.1:1", "node1:1", "[2001:db8::1]:1")))

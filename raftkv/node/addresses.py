"""Validation of members' addresses: connectable, free, and of the same network."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import TypeAlias

from raftkv.config import split_address
from raftkv.errors import ConfigurationError, InvalidRequest, MembershipRefused
from raftkv.raft.entry import Address, Membership

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# The last label of a host name is never a number (RFC 3696), and resolvers disagree about such.
ALMOST_AN_IP = re.compile(r"(.*\.)?(\d+|0[xX][0-9a-fA-F]+)\.?")
BROADCAST = ipaddress.IPv4Address("255.255.255.255")


def require_connectable(field: str, address: str) -> None:
    """Refuse an address that no node can be reached at.

    Raises `InvalidRequest` with the field and the fix.
    """
    try:
        host, _ = split_address(field, address)
    except ConfigurationError as error:
        raise InvalidRequest(error.message, field=field) from error
    problem = _unconnectable(host)
    if problem:
        raise InvalidRequest(
            f"{field} is {address}, but {problem}. Fix: give the name or address of the machine"
            " that the node runs on, as in 10.0.0.4:7511",
            field=field,
        )


def _unconnectable(host: str) -> str:
    """Why nothing can connect to this host; empty if something may."""
    if host == "*":
        return "it must be an address that others can connect to, not a place to listen on"
    ip = _ip_of(host)
    if ip is None:
        if ALMOST_AN_IP.fullmatch(host):
            return "that is neither an IP address nor the name of a host"
        return "that is not the name of a host" if "*" in host or "%" in host else ""
    if ip.is_unspecified:
        return "it must be an address that others can connect to, not a place to listen on"
    if ip.is_multicast or ip == BROADCAST:
        return "that is the address of a group, which nothing can connect to"
    if ip.version == 6 and ip.is_link_local:
        return "a link-local address means another machine, or none, at each node"
    return ""


def require_free(present: Membership, node_id: int, address: Address) -> None:
    """Refuse addresses of `node_id` that another member has. Raises `MembershipRefused`.

    Peer and client addresses are compared with each other, too: two nodes can't listen on one.
    """
    if _canonical(address.peer) == _canonical(address.client):
        raise MembershipRefused(
            f"{address.peer} is given for both peers and clients of node {node_id}: give it two"
            " ports"
        )
    wanted = {_canonical(address.peer): address.peer, _canonical(address.client): address.client}
    for other, kind, known in _addresses(present, but=node_id):
        taken = wanted.get(_canonical(known))
        if taken is not None:
            raise MembershipRefused(
                f"{taken} is the {kind} address of node {other} already: give node {node_id} an"
                " address of its own"
            )


def require_same_network(
    present: Membership, node_id: int, address: Address, *, may_leave_loopback: bool
) -> None:
    """Refuse a loopback address where the others are not on loopback, and the other way round.

    With `may_leave_loopback` only the former: so begins a move of the whole cluster. Peer and
    client addresses are judged apart. Raises `MembershipRefused`.
    """
    for kind, own in (("peer", address.peer), ("client", address.client)):
        others = [known for _, each, known in _addresses(present, but=node_id) if each == kind]
        if not others:
            continue
        if is_loopback(own) and not any(map(is_loopback, others)):
            raise MembershipRefused(
                f"the {kind} address {own} of node {node_id} is loopback, but other members are at"
                f" {others[0]}: from there it leads nowhere. Fix: give the address of the"
                f" machine of node {node_id}"
            )
        if not may_leave_loopback and not is_loopback(own) and all(map(is_loopback, others)):
            raise MembershipRefused(
                f"the other members are on loopback ({kind} address {others[0]}), where node"
                f" {node_id} at {own} finds them only if it runs on the same machine. Fix: give it"
                " a loopback address, too, or give them addresses of this machine first"
                " (`raftkv member update`)"
            )


def is_loopback(address: str) -> bool:
    """Whether this `host:port` means the machine itself, wherever it is read."""
    host = _host_of(address)
    ip = _ip_of(host)
    return ip.is_loopback if ip is not None else (host == "localhost")


def _addresses(present: Membership, *, but: int) -> Iterator[tuple[int, str, str]]:
    """(member, "peer" or "client", address) of every member but one."""
    for node_id, known in sorted(present.addresses.items()):
        if node_id != but:
            yield node_id, "peer", known.peer
            yield node_id, "client", known.client


def _canonical(address: str) -> tuple[str, str]:
    """Equal for addresses that are written differently and mean the same."""
    host, port = _host_of(address), address.rpartition(":")[2]
    ip = _ip_of("127.0.0.1" if host == "localhost" else host)
    return (str(ip) if ip is not None else host), port.lstrip("0")


def _host_of(address: str) -> str:
    return address.rpartition(":")[0].strip("[]").rstrip(".").lower()


def _ip_of(host: str) -> IpAddress | None:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip

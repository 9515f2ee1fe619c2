"""Addresses of the form host:port, of nodes in settings, members and endpoints of clients."""

from __future__ import annotations

import ipaddress
from typing import Final

HOST_PORT: Final = "host:port with a port from 1 to 65535"
EXAMPLE_PORT: Final = "7411"


def split_host_port(address: str) -> tuple[str, int]:
    """Host, without brackets, and port. An IPv6 address stands in brackets.

    Raises `ValueError` that says what to write instead.
    """
    host, _, port = address.rpartition(":")
    bare = _without_brackets(host)
    if not (_is_host(bare, in_brackets=bare != host) and _is_port(port)):
        raise ValueError(_fix(address, host, port))
    return bare, int(port)


def is_loopback_host(host: str) -> bool:
    """Whether this host means the machine itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_wildcard_host(host: str) -> bool:
    """Whether this host means every address of a machine, so that no client can connect to it."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return host == "*"


def _is_host(host: str, *, in_brackets: bool) -> bool:
    if in_brackets:
        return _is_ipv6(host)
    return bool(host) and not any(each.isspace() or each in "/,@:[]" for each in host)


def _without_brackets(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _is_port(port: str) -> bool:
    # int() itself refuses a number of thousands of digits.
    return port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65_535


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _fix(address: str, host: str, port: str) -> str:
    if _is_port(port) and _is_ipv6(host):
        return f"an IPv6 address stands in brackets: write [{host}]:{port}"
    whole = _without_brackets(address)
    if _is_ipv6(whole):
        return f"an IPv6 address stands in brackets before a port: write [{whole}]:{EXAMPLE_PORT}"
    return f"write it like 127.0.0.1:{EXAMPLE_PORT}"

"""Addresses of the form host:port."""

from __future__ import annotations

import pytest

from raftkv.wire.addresses import is_loopback_host, is_wildcard_host, split_host_port


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:7411", ("127.0.0.1", 7411)),
        ("node1:1", ("node1", 1)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_has_a_host_and_a_port(address: str, parts: tuple[str, int]) -> None:
    assert split_host_port(address) == parts


@pytest.mark.parametrize(
    ("address", "fix"),
    [
        ("node1", "write it like 127.0.0.1:7411"),
        ("node1:0", "write it like 127.0.0.1:7411"),
        ("node1:65536", "write it like 127.0.0.1:7411"),
        (":7411", "write it like 127.0.0.1:7411"),
        ("::1:7411", r"write \[::1\]:7411"),
        ("[::1]", r"write \[::1\]:7411"),
    ],
)
def test_an_address_of_another_form_is_refused_with_the_fix(address: str, fix: str) -> None:
    with pytest.raises(ValueError, match=fix):
        split_host_port(address)


def test_hosts_of_the_machine_itself_are_loopback() -> None:
    assert all(map(is_loopback_host, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(map(is_loopback_host, ("10.0.0.1", "node1", "0.0.0.0", "*")))


def test_hosts_that_mean_every_address_are_wildcards() -> None:
    assert all(map(is_wildcard_host, ("*", "0.0.0.0", "::")))
    assert not any(map(is_wildcard_host, ("127.0.0.1", "node1")))

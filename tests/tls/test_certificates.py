"""Whom a certificate names."""

from __future__ import annotations

import pytest

from raftkv.tls.certificates import Certificate
from raftkv.tls.names import is_cluster_name, node_name


def certificate(name: str = "", dns: str = "", uris: str = "") -> Certificate:
    return Certificate(1, name, tuple(dns.split()), tuple(uris.split()))


@pytest.mark.parametrize(
    ("dns", "node"),
    [
        ("node-7.prod.raftkv", 7),
        ("db7.example.org node-7.prod.raftkv", 7),
        ("NODE-7.Prod.raftkv", 7),
        ("node-7.prod.raftkv node-7.prod.raftkv", 7),
        ("node-7.prod.raftkv node-8.prod.raftkv", None),
        ("node-7.other.raftkv", None),
        ("node-7.raftkv", None),
        ("node-07.prod.raftkv", None),
        ("node-0.prod.raftkv", None),
        ("node-7.prod.raftkv.example.org", None),
        ("x.node-7.prod.raftkv", None),
        ("*.prod.raftkv", None),
        ("", None),
    ],
)
def test_a_certificate_names_one_node_of_this_cluster_or_none(dns: str, node: int | None) -> None:
    assert certificate("node-9.prod.raftkv", dns).node("prod") == node


@pytest.mark.parametrize(
    ("held", "user"),
    [
        (certificate("alice"), "alice"),
        (certificate("alice", uris="raftkv://user/bob"), "bob"),
        (certificate("alice", uris="spiffe://x/y raftkv://user/bob"), "bob"),
        (certificate("alice", uris="raftkv://user/bob raftkv://user/eve"), None),
        (certificate("alice", uris="raftkv://user/"), None),
        (certificate("alice", uris="spiffe://x/y"), "alice"),
        (certificate("alice", dns="alice.example.org"), "alice"),
        (certificate("root", dns="node-1.prod.raftkv"), None),
        (certificate("root", "node-1.prod.raftkv", "raftkv://user/root"), None),
        (certificate(), None),
    ],
)
def test_a_certificate_names_one_user_or_none_and_never_that_of_a_node(
    held: Certificate, user: str | None
) -> None:
    assert held.user == user


def test_only_clusters_with_names_for_dns_have_certificates_of_nodes() -> None:
    assert node_name(3, "Prod") == "node-3.prod.raftkv"
    assert all(map(is_cluster_name, ("raftkv", "Prod-1", "a.b_c", "x" * 63)))
    assert not any(
        map(is_cluster_name, ("a b", "ü", "a..b", ".a", "*", "x" * 64, "a." * 100 + "a"))
    )

"""The names in certificates: of nodes as DNS names, of users as URIs."""

from __future__ import annotations

import re

NODE_DOMAIN = "raftkv"
USER_URI = "raftkv://user/"

_CLUSTER = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
CLUSTER_LENGTH_MAX = 200
CLUSTER_FORM = (
    f"at most {CLUSTER_LENGTH_MAX} letters, digits, '-' and '_', with single dots between, where"
    " certificates name it"
)

_NODE = re.compile(r"node-([1-9][0-9]{0,18})\.(.+)\." + NODE_DOMAIN, re.IGNORECASE)


def node_name(node_id: int, cluster_name: str) -> str:
    """The DNS name by which a certificate names a node of a cluster."""
    return f"node-{node_id}.{cluster_name}.{NODE_DOMAIN}".lower()


def node_of_name(name: str, cluster_name: str) -> int | None:
    """The node of this cluster that a DNS name names; None if it names none."""
    found = _NODE.fullmatch(name)
    if found is None or found[2].lower() != cluster_name.lower():
        return None
    return int(found[1])


def names_a_node(name: str) -> bool:
    """Whether a DNS name names a node, of whichever cluster."""
    return _NODE.fullmatch(name) is not None


def is_cluster_name(name: str) -> bool:
    """Whether certificates can name a cluster of this name."""
    return len(name) <= CLUSTER_LENGTH_MAX and _CLUSTER.fullmatch(name) is not None

"""Who answers, and from what state: the header of every reply."""

from __future__ import annotations

from raftkv.rpc import api_pb2
from raftkv.server.ports import Node


def header_of(node: Node) -> api_pb2.ReplyHeader:
    """The header as of now."""
    return api_pb2.ReplyHeader(
        cluster_id=node.cluster_id,
        incarnation=node.incarnation,
        node_id=node.node_id,
        term=node.term,
        revision=node.machine.revision,
    )

"""The membership as the log and the wire carry it."""

from __future__ import annotations

from raftkv.raft.entry import Address, Membership
from raftkv.rpc import log_pb2


def decode_membership(payload: bytes) -> Membership:
    """From the payload of an entry of kind MEMBERSHIP."""
    message = log_pb2.Membership.FromString(payload)
    return Membership(
        voters=frozenset(message.voters),
        voters_outgoing=frozenset(message.voters_outgoing),
        learners=frozenset(message.learners),
        addresses={
            member.node_id: Address(member.peer_address, member.client_address)
            for member in message.addresses
        },
        removed=frozenset(message.removed),
    )

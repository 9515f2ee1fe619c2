"""A configuration (membership) as bytes: in the log, in the state and on the wire."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from raftkv.errors import InvalidRequest
from raftkv.raft.entry import Address, Membership
from raftkv.rpc.v1 import log_pb2
from raftkv.wire.canonical import membership_bytes


def encode_membership(membership: Membership) -> bytes:
    """The payload of a MEMBERSHIP entry; equal memberships have equal bytes."""
    wire = log_pb2.Membership()
    fill_membership(membership, wire)
    return membership_bytes(wire)


def decode_membership(payload: bytes) -> Membership:
    """Read the payload of a MEMBERSHIP entry. Raises `InvalidRequest` if it is none."""
    try:
        return read_membership(log_pb2.Membership.FromString(payload))
    except DecodeError as error:
        raise InvalidRequest(f"the payload is not a Membership: {error}") from error


def fill_membership(membership: Membership, wire: log_pb2.Membership) -> None:
    """Write `membership` into an empty message."""
    wire.voters.extend(sorted(membership.voters))
    wire.voters_outgoing.extend(sorted(membership.voters_outgoing))
    wire.learners.extend(sorted(membership.learners))
    wire.removed.extend(sorted(membership.removed))
    for node_id, address in sorted(membership.addresses.items()):
        wire.addresses.add(
            node_id=node_id,
            peer_address=address.peer,
            client_address=address.client,
            disk_id=membership.disk_ids.get(node_id, 0),
        )


def read_membership(wire: log_pb2.Membership) -> Membership:
    """The membership that `wire` holds."""
    return Membership(
        voters=frozenset(wire.voters),
        voters_outgoing=frozenset(wire.voters_outgoing),
        learners=frozenset(wire.learners),
        addresses={
            member.node_id: Address(member.peer_address, member.client_address)
            for member in wire.addresses
        },
        removed=frozenset(wire.removed),
        disk_ids={member.node_id: member.disk_id for member in wire.addresses if member.disk_id},
    )

"""How two nodes introduce themselves, and the channel options that both ends must agree on.

The caller says in the call's metadata who it is and whom it means to reach; the callee lets it
in or refuses with FAILED_PRECONDITION and one of `Refusal` in the trailing metadata.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import grpc

PROTOCOL = 1

SERVICE = "raftkv.rpc.Peer"
CONNECT = f"/{SERVICE}/Connect"
SEND_SNAPSHOT = f"/{SERVICE}/SendSnapshot"

CLUSTER_KEY = "raftkv-cluster-id"
NODE_KEY = "raftkv-node-id"
ADDRESS_KEY = "raftkv-address"
TO_KEY = "raftkv-to"
PROTOCOL_KEY = "raftkv-protocol"
REASON_KEY = "raftkv-reason"

# Initial metadata of a SendSnapshot whose data is wanted.
LET_IN = ("raftkv-let-in", "yes")

# What a node sends its peer is bounded by the peer's outbox and by Raft's caps; this only keeps
# a damaged length from taking all memory.
MESSAGE_BYTES_MAX = 256 << 20

# A frozen process or a cut network says nothing at all; after time + timeout of silence
# the link is broken. Both ends ping, and neither may take the other's pings for an attack.
# Measured with gRPC 1.85: without ping_timeout_ms it waits a minute, whatever keepalive says.
KEEPALIVE_TIME_MS = 1000
KEEPALIVE_TIMEOUT_MS = 2000

Options = Sequence[tuple[str, int]]

_BOTH_ENDS: Options = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.max_pings_without_data", 0),
    # The probe for a larger window pings after every message; our windows are large enough.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 8 << 20),
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_TIME_MS // 2),
    ("grpc.http2.max_ping_strikes", 0),
)
CHANNEL_OPTIONS: Options = (
    *_BOTH_ENDS,
    # Each channel has a connection of its own: a snapshot's bytes must not stand in the same
    # socket buffer as heartbeats, and a new attempt must not inherit gRPC's own back-off.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
SERVER_OPTIONS: Options = (
    *_BOTH_ENDS,
    # gRPC's default lets two processes listen on one port and get half of the connections each.
    ("grpc.so_reuseport", 0),
)


class Refusal(enum.StrEnum):
    """Why a peer does not let us in. The values are those of the wire."""

    BAD_HELLO = "BAD_HELLO"
    WRONG_CLUSTER = "WRONG_CLUSTER"
    WRONG_NODE = "WRONG_NODE"
    WRONG_PROTOCOL = "WRONG_PROTOCOL"
    REMOVED = "REMOVED"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is, and where its peers reach it."""

    cluster_id: int
    node_id: int
    address: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and where it says that it can be reached itself."""

    node_id: int
    address: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal with words for the log of the one that was refused."""

    reason: Refusal
    message: str


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a call is over. Two endings are equal if code and reason are; words vary."""

    code: str
    reason: str
    details: str = field(compare=False)


def hello(identity: Identity, to: int) -> tuple[tuple[str, str], ...]:
    """The metadata with which `identity` calls node `to`."""
    return (
        (CLUSTER_KEY, str(identity.cluster_id)),
        (NODE_KEY, str(identity.node_id)),
        (ADDRESS_KEY, identity.address),
        (TO_KEY, str(to)),
        (PROTOCOL_KEY, str(PROTOCOL)),
    )


def check_hello(
    metadata: Iterable[tuple[str, str | bytes]] | None, identity: Identity
) -> Caller | Refused:
    """Who calls, or why `identity` does not let it in (membership is not looked at)."""
    said = dict(metadata or ())
    try:
        cluster_id, sender, to, protocol = (
            int(said[key]) for key in (CLUSTER_KEY, NODE_KEY, TO_KEY, PROTOCOL_KEY)
        )
        address = str(said[ADDRESS_KEY])
    except (KeyError, ValueError):
        return Refused(Refusal.BAD_HELLO, "the call's metadata does not say who calls whom")
    if protocol != PROTOCOL:
        return Refused(
            Refusal.WRONG_PROTOCOL,
            f"node {identity.node_id} speaks protocol {PROTOCOL}, the caller {protocol}",
        )
    if cluster_id != identity.cluster_id:
        return Refused(
            Refusal.WRONG_CLUSTER,
            f"this is cluster {identity.cluster_id:016x}, the caller's is {cluster_id:016x}",
        )
    if to != identity.node_id or sender == to:
        return Refused(
            Refusal.WRONG_NODE,
            f"this is node {identity.node_id}, node {sender} meant to reach node {to}",
        )
    return Caller(sender, address)


async def ending_of(call: grpc.aio.Call) -> Ending:
    """How the call ended; cancels it if it has not."""
    call.cancel()
    code = await call.code()
    said = dict(await call.trailing_metadata() or ())
    return Ending(code.name, str(said.get(REASON_KEY, "")), await call.details() or "")

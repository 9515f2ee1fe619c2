"""gRPC options of the peer port: what both ends of a connection between nodes must agree on."""

from __future__ import annotations

from collections.abc import Sequence

# The largest frame is an entry of one batch of commands (`config.BATCH_BYTES_MAX`, 6 MiB) beside a
# full control queue (1 MiB); appends and forwards of several end at 1 MiB. gRPC takes so much of a
# message into memory before the caller has proven who it is.
MESSAGE_BYTES_MAX = 8 << 20

# A frozen process or a partitioned network sends nothing; after time + timeout of silence gRPC
# breaks the connection. Both ends ping, and neither may take the other's pings for an attack.
# Measured with gRPC 1.85: without ping_timeout_ms it waits a minute, whatever keepalive says.
KEEPALIVE_TIME_MS = 1000
KEEPALIVE_TIMEOUT_MS = 2000

STREAMS_PER_CONNECTION_MAX = 8

CONNECTIONS_MAX = 256
"""Of the peer port: members have two each, links and snapshots."""

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
    # How much of a message gRPC takes into memory before it is read, for each stream.
    ("grpc.http2.lookahead_bytes", 2 << 20),
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
    ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
    ("grpc.max_metadata_size", 8 << 10),
    ("grpc.absolute_max_metadata_size", 16 << 10),
    ("grpc.server_handshake_timeout_ms", 5_000),
    # A peer has a stream on each of its connections; an idle connection would occupy a slot.
    ("grpc.max_connection_idle_ms", 10_000),
    # gRPC's default lets two processes listen on one port and get half of the connections each.
    ("grpc.so_reuseport", 0),
)

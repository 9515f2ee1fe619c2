"""gRPC channels of the benchmark: a connection each, and quick to come back."""

from __future__ import annotations

import grpc


def open_channel(endpoint: str) -> grpc.aio.Channel:
    """A channel with a connection of its own: by default gRPC would share one among equals.

    Its reconnect back-off is short, so that it doesn't count as the time a node needs to return.
    """
    return grpc.aio.insecure_channel(
        endpoint,
        options=[
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 200),
        ],
    )

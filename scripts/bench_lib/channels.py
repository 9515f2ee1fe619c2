"""gRPC channels of the benchmark: a connection each, and quick to come back."""

from __future__ import annotations

import grpc


def open_channel(endpoint: str, authorities: bytes | None = None) -> grpc.aio.Channel:
    """A channel with a connection of its own: by default gRPC would share one among equals.

    Its reconnect back-off is short, so that it doesn't count as the time a node needs to return.
    It is by TLS if `authorities` are given: the CAs that it trusts, in PEM.
    """
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 200),
    ]
    if authorities is None:
        return grpc.aio.insecure_channel(endpoint, options=options)
    credentials = grpc.ssl_channel_credentials(authorities)
    return grpc.aio.secure_channel(endpoint, credentials, options=options)

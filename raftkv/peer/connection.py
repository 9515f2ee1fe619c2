"""One outgoing connection to a node: over TLS, in plaintext, or whichever the node speaks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import grpc

from raftkv.peer.grpc_options import CHANNEL_OPTIONS
from raftkv.peer.handshake import Credentials
from raftkv.peer.secret import ClusterSecret
from raftkv.tls.credentials import channel_credentials
from raftkv.tls.names import node_name
from raftkv.tls.port import TlsMode, accepts_tls


@dataclass(frozen=True, slots=True)
class Connection:
    """A channel to a node, and the credentials for the handshake on it.

    `fell_back`: the node did not speak TLS, so the channel is plaintext.
    """

    channel: grpc.aio.Channel
    credentials: Credentials
    fell_back: bool = False


async def connect_to(to: int, address: str, credentials: Credentials) -> Connection:
    """A connection of its own to node `to`. Over TLS its certificate must name that node.

    The caller closes the channel. Only in mode `optional` this waits for the connection, for at
    most two seconds.
    """
    tls = credentials.tls
    if tls.store is None or tls.mode is TlsMode.OFF:
        return Connection(grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS), credentials)
    certificates = tls.store.current
    name = node_name(to, credentials.cluster_name)
    channel = grpc.aio.secure_channel(
        address,
        channel_credentials(certificates.authorities, certificates),
        options=(*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", name)),
    )
    if tls.mode is TlsMode.REQUIRED or await accepts_tls(channel):
        # Its certificate takes the place of the secret.
        return Connection(channel, replace(credentials, secret=ClusterSecret()))
    plaintext = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    return Connection(plaintext, credentials, fell_back=True)

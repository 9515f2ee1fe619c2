"""TCP connections of the process, named as gRPC names them: received bytes, and closing them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from raftkv.server import traffic


@pytest.fixture(params=[("127.0.0.1", "ipv4:127.0.0.1:{}"), ("::1", "ipv6:%5B::1%5D:{}")])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket, str]]:
    """A client's end, the server's, and the client's name."""
    host, name = request.param
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        socket.create_server((host, 0), family=family) as listener,
        socket.create_connection(listener.getsockname()[:2], timeout=10) as client,
        listener.accept()[0] as server,
    ):
        yield client, server, name.format(client.getsockname()[1])


def test_received_bytes_include_unread_ones(
    pair: tuple[socket.socket, socket.socket, str],
) -> None:
    client, server, name = pair
    client.sendall(bytes(5_000))
    assert server.recv(5_000, socket.MSG_WAITALL | socket.MSG_PEEK) == bytes(5_000)
    assert traffic.received_bytes()[name] == 5_000


def test_cut_closes_the_named_connection_and_no_other(
    pair: tuple[socket.socket, socket.socket, str],
) -> None:
    client, server, name = pair
    traffic.cut(["ipv4:127.0.0.1:1"])
    client.sendall(b"x")
    assert server.recv(1) == b"x"
    traffic.cut([name])
    assert client.recv(1) == b""


def test_sampling_leaves_no_descriptor_open(
    pair: tuple[socket.socket, socket.socket, str],
) -> None:
    before = os.listdir(traffic.OWN_DESCRIPTORS)
    traffic.received_bytes()
    traffic.cut([])
    assert os.listdir(traffic.OWN_DESCRIPTORS) == before

"""`raftkv health` reports one node's health as an exit code for probes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from raftkv.cli.exit_codes import ExitCode
from tests.cli.conftest import Raftkv


class Node:
    """Nothing but a health service on loopback."""

    def __init__(self, server: grpc.Server) -> None:
        self._servicer = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"

    def show(self, status: int) -> None:
        self._servicer.set("", status)


@pytest.fixture
def node() -> Iterator[Node]:
    with ThreadPoolExecutor(max_workers=1) as threads:
        server = grpc.server(threads)
        node = Node(server)
        server.start()
        yield node
        server.stop(None).wait()


def test_a_serving_node_is_healthy(raftkv: Raftkv, node: Node) -> None:
    node.show(health_pb2.HealthCheckResponse.SERVING)
    ran = raftkv("health", node.address, "--output", "json")
    assert (ran.code, ran.json) == (ExitCode.OK, {"health": "serving"})


def test_a_node_that_is_not_ready_is_not_healthy(raftkv: Raftkv, node: Node) -> None:
    node.show(health_pb2.HealthCheckResponse.NOT_SERVING)
    ran = raftkv("health", node.address)
    assert ran.code == ExitCode.UNAVAILABLE
    assert "has not caught up" in ran.err


def test_an_address_where_no_process_listens_is_not_healthy(raftkv: Raftkv) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unheard.getsockname()[1]}"
        ran = raftkv("health", address)
    assert ran.code == ExitCode.UNAVAILABLE
    assert f"no node answers at {address}" in ran.err


def test_an_invalid_address_is_a_usage_error(raftkv: Raftkv) -> None:
    assert raftkv("health", "node1").code == ExitCode.USAGE

"""`raftkv health`: whether one node serves, in its own words. For probes: it starts quickly."""

from __future__ import annotations

from typing import Annotated

import typer

from raftkv.cli.options import options_of
from raftkv.cli.output import print_values

ONE_TRY_S_MAX = 5.0  # of --timeout 0


def health(
    context: typer.Context,
    address: Annotated[
        str, typer.Argument(metavar="HOST:PORT", help="The node's client address.")
    ] = "127.0.0.1:7411",
) -> None:
    """Ask one node whether it serves: it has recovered, has caught up and is not stopping.

    Says nothing of the cluster: without a majority its nodes are still healthy. Exits with 4 if
    the node does not serve or does not answer.
    """
    options = options_of(context)
    check(address, options.timeout_s or ONE_TRY_S_MAX)
    print_values(options.output, {"health": "serving"})


def check(address: str, timeout_s: float) -> None:
    """Raises `Unavailable` if that node does not serve, `ConfigurationError` for no address."""
    # Not by our client: it would look for other nodes, and takes twice the time to import.
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from raftkv.client.connection.endpoints import parse_endpoints
    from raftkv.errors import ConnectionFailed, Unavailable

    (address,) = parse_endpoints([address])
    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            raise ConnectionFailed(f"no node answers at {address}: {error.details()}") from None
    if reply.status != health_pb2.HealthCheckResponse.SERVING:
        raise Unavailable(
            f"the node at {address} does not serve: it has not caught up yet, is"
            " stopping, waits for other nodes or is out of service: `raftkv status` says more"
        )

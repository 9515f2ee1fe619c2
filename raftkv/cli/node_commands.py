"""`raftkv health` and `raftkv secret new`: commands about one node."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raftkv.cli.client_command import options_of
from raftkv.cli.output import print_values
from raftkv.errors import ConfigurationError

if TYPE_CHECKING:
    from raftkv.client.tls import Tls

ONE_TRY_S_MAX = 5.0  # with --timeout 0


def health(
    context: typer.Context,
    address: Annotated[
        str, typer.Argument(metavar="HOST:PORT", help="The node's client address.")
    ] = "127.0.0.1:7411",
) -> None:
    """Check one node: healthy if it has recovered, has caught up and is not stopping.

    This is not the health of the cluster: without a majority its nodes are still healthy. Exits
    with 4 if the node does not serve or does not answer.
    """
    options = options_of(context)
    check_health(address, options.timeout_s or ONE_TRY_S_MAX, options.tls)
    print_values(options.output, {"health": "serving"})


def check_health(address: str, timeout_s: float, tls: Tls | None) -> None:
    """Raises `Unavailable` if the node does not serve, `ConfigurationError` for a bad address."""
    # Without our client: it would ask other nodes, and takes twice the time to import.
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from raftkv.client.connection.endpoints import split_scheme
    from raftkv.client.tls import ChannelCredentials, Tls, why_plaintext_failed
    from raftkv.errors import ConnectionFailed, Unavailable

    (address,), by_scheme = split_scheme([address])
    options = (("grpc.enable_http_proxy", 0),)
    if tls is None and not by_scheme:
        made = grpc.insecure_channel(address, options=options)
        why_failed = why_plaintext_failed
    else:
        credentials = ChannelCredentials(tls or Tls())
        made = grpc.secure_channel(address, credentials.current(), options=options)
        why_failed = credentials.why_failed
    with made as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            why = why_failed(address, error.details() or "")
            raise ConnectionFailed(f"no node answers at {address}: {why}") from None
    if reply.status != health_pb2.HealthCheckResponse.SERVING:
        raise Unavailable(
            f"the node at {address} does not serve: it has not caught up yet, is"
            " stopping, waits for other nodes or is out of service: `raftkv status` says more"
        )


secret_app = typer.Typer(no_args_is_help=True, help="Make the secret of a cluster.")


@secret_app.callback()
def _secret() -> None: ...


@secret_app.command("new")
def secret_new(
    file: Annotated[Path, typer.Argument(help="Where to write it.")],
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="A file that is there stays, and is no error.")
    ] = False,
) -> None:
    """Write a new secret to FILE, readable by its owner alone.

    Copy it to every node and set cluster_secret_file to it. An existing file is never overwritten.
    """
    from raftkv.peer.secret import new_secret, read_secret

    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if if_missing:
            read_secret(str(file))
            return
        raise ConfigurationError(
            f"{file} exists and is left as it is. Fix: name another file, or use the secret in it."
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{file} can't be written: {error.strerror}. Fix: name a file in a directory that"
            " exists and that you may write to."
        ) from None
    with os.fdopen(descriptor, "w") as out:
        out.write(new_secret() + "\n")
        out.flush()
        os.fsync(out.fileno())
    typer.echo(f"{file}: copy it to every node, and set cluster_secret_file to it")

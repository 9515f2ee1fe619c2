"""`raftkv dev`: a local cluster in one terminal, for development."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from raftkv.cli.guarded.reaper import Reaper
from raftkv.cli.local_cluster import LocalNode, local_cluster
from raftkv.cli.serve import check_free
from raftkv.errors import AddressInUse, InvalidRequest


def dev(
    nodes: Annotated[int, typer.Option("--nodes", "-n", min=1, max=7, help="How many.")] = 3,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="The data stay below it, for the next time.", show_default="data"),
    ] = None,
    temporary: Annotated[
        bool, typer.Option("--temporary", help="Use a new directory, removed at the end.")
    ] = False,
    client_port: Annotated[int, typer.Option(help="Of node 1; the others follow.")] = 7411,
    peer_port: Annotated[int, typer.Option(help="Of node 1; the others follow.")] = 7511,
    http_port: Annotated[
        int | None,
        typer.Option(
            help="Of node 1, for probes and metrics; the others follow.", show_default="none"
        ),
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    secure: Annotated[
        bool, typer.Option("--secure", help="With TLS, authentication and the user root.")
    ] = False,
) -> None:
    """Run a cluster in this terminal, one process per node. Ctrl-C stops it, twice at once.

    A node that ends is not started again, so you can kill one and see what happens. However this
    command ends, be it by SIGKILL, its nodes end with it and a temporary directory is removed.

    With --secure it makes certificates and a password below the data, and prints how to use them.
    """
    import asyncio

    from raftkv.cli.dev_security import DevSecurity
    from raftkv.cli.dev_terminal import DevTerminal
    from raftkv.client.credentials import PASSWORD_VARIABLE, TOKEN_VARIABLE, USER_VARIABLE

    if temporary and data_dir is not None:
        raise InvalidRequest("--temporary and --data-dir exclude each other; leave out one of them")
    directory = data_dir or Path("data")
    if temporary:
        directory = Path(tempfile.mkdtemp(prefix="raftkv-"))
    with Reaper(grace_s=0.0, directory=directory if temporary else None) as reaper:
        # A cluster's identity includes its addresses, so each set of ports has its own directory.
        name = f"dev-{nodes}-{client_port}-{peer_port}"
        cluster_directory = directory / (f"{name}-secure" if secure else name)
        cluster = local_cluster(
            range(client_port, client_port + nodes),
            range(peer_port, peer_port + nodes),
            cluster_directory,
            "dev",
        )
        if http_port is not None:
            cluster = with_http(cluster, http_port)
        check_ports(cluster)
        for variable in (USER_VARIABLE, PASSWORD_VARIABLE, TOKEN_VARIABLE):
            os.environ.pop(variable, None)  # they are those of another cluster
        security = None
        if secure:
            security = DevSecurity.of_cluster(cluster, cluster_directory / "security")
            cluster = [
                replace(node, settings=tuple(security.settings_of(node.node_id)))
                for node in cluster
            ]
        code = asyncio.run(DevTerminal(cluster, log_level, reaper, security).run())
    if not temporary:
        typer.echo(f"raftkv dev | the data are in {cluster_directory}")
    raise typer.Exit(code)


def with_http(cluster: Sequence[LocalNode], first_port: int) -> list[LocalNode]:
    """The nodes, each with an HTTP port."""
    return [
        replace(node, http_address=f"127.0.0.1:{port}")
        for port, node in enumerate(cluster, start=first_port)
    ]


def check_ports(cluster: Sequence[LocalNode]) -> None:
    """Raises `AddressInUse`, with all addresses on which other processes listen."""
    taken: list[str] = []
    for node in cluster:
        for key in ("client", "peer", "http"):
            address = getattr(node, f"{key}_address")
            try:
                if address:
                    check_free(key, address)
            except AddressInUse:
                taken.append(address)
    if taken:
        raise AddressInUse(
            f"in use by another process: {', '.join(taken)}. Perhaps a `raftkv dev` runs already."
            " Fix: stop it, or choose other ports with --client-port, --peer-port and --http-port.",
            addresses=",".join(taken),
        )

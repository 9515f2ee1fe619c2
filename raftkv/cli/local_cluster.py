"""A cluster on this machine: the addresses of its nodes, and the command that starts each."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raftkv.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class LocalNode:
    """One node, with the settings for its `raftkv serve`."""

    node_id: int
    client_address: str
    peer_address: str
    data_dir: Path
    initial_members: str
    cluster_name: str
    http_address: str = ""  # empty: none
    settings: tuple[str, ...] = ()  # more of them, as flags

    def command(self, *more: str) -> list[str]:
        """The command line of the node, with the flags `more` at the end."""
        return [
            *(sys.executable, "-m", "raftkv", "serve"),
            *("--node-id", str(self.node_id)),
            *("--cluster-name", self.cluster_name),
            *("--data-dir", str(self.data_dir)),
            *("--initial-members", self.initial_members),
            *("--set", "disk_reserve_bytes=0"),  # the nodes share one disk
            *("--set", f"http_listen={self.http_address or 'off'}"),
            *self.settings,
            *more,
        ]


def local_cluster(
    client_ports: Sequence[int], peer_ports: Sequence[int], directory: Path, cluster_name: str
) -> list[LocalNode]:
    """Nodes 1, 2, ... on 127.0.0.1, each with a directory of its own below `directory`."""
    ports = [*client_ports, *peer_ports]
    if len(set(ports)) < len(ports) or not all(1 <= port <= 65_535 for port in ports):
        raise ConfigurationError(
            f"the nodes would listen on ports {', '.join(map(str, ports))}, but each needs one of"
            " its own from 1 to 65535. Fix: choose other first ports.",
            key="ports",
        )
    pairs = enumerate(zip(client_ports, peer_ports, strict=True), start=1)
    addresses = {
        node_id: (f"127.0.0.1:{client}", f"127.0.0.1:{peer}") for node_id, (client, peer) in pairs
    }
    members = ",".join(f"{n}={peer}/{client}" for n, (client, peer) in addresses.items())
    return [
        LocalNode(n, client, peer, directory / f"node-{n}", members, cluster_name)
        for n, (client, peer) in addresses.items()
    ]


def node_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a node whose settings are all given as flags."""
    return {name: value for name, value in environ.items() if not name.startswith("RAFTKV_")}

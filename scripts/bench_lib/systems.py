"""The systems by name. Imports a system's client only when it is used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench_lib.cluster import Client, Cluster


def new_cluster(system: str, directory: Path) -> Cluster:
    """Three nodes, not yet started, with their data below `directory`."""
    if system == "etcd":
        from bench_lib.etcd_cluster import EtcdCluster

        return EtcdCluster(directory)
    from bench_lib.raftkv_cluster import RaftkvCluster

    return RaftkvCluster(directory)


async def open_client(system: str, endpoints: Sequence[str], connections: int) -> Client:
    """A connected client. `connections` per endpoint; raftkv's client decides for itself."""
    if system == "etcd":
        from bench_lib.etcd_client import open_etcd_client

        return await open_etcd_client(endpoints, connections)
    from bench_lib.raftkv_client import open_raftkv_client

    return await open_raftkv_client(endpoints)

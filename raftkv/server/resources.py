"""Resources of this process: version, memory, disk space, and file descriptors."""

from __future__ import annotations

import importlib.metadata
import os
import resource
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from raftkv.errors import ConfigurationError


@cache
def version() -> str:
    """The version of raftkv that runs; "unknown" in a checkout that was never installed."""
    # Cached: reading the package's metadata takes a millisecond, and every Status reports it.
    try:
        return importlib.metadata.version("raftkv")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def memory_bytes() -> int:
    """Resident memory now; without /proc, its maximum so far."""
    try:
        resident_pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return resident_pages * os.sysconf("SC_PAGE_SIZE")


def disk_free_bytes(directory: Path) -> int:
    """Space on the disk of `directory` that this process may use; 0 if unknown."""
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return 0


LIMIT_MIN = 212
"""The fewest file descriptors with which a node can run."""

OWN = 100
"""Descriptors of the process itself. Measured: 45 on an idle node of three, including stores. Links
to six peers, snapshots in both directions, a verification of each store and the outputs of a
compaction are another 25. The HTTP port has 20, of which 16 are connections."""

LOG_TABLES = 16
STATE_TABLES_MIN = 24
PEER_CONNECTIONS_MIN = 16
PEER_CONNECTIONS_MAX = 128
"""Members need a few. The others are for strangers, who keep a connection for 5 s before they must
have shown a certificate: members have to find a free one meanwhile."""

CLIENT_CONNECTIONS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Descriptors:
    """The limit of file descriptors, divided between the stores and the connections.

    A store that can't open its next file stops its node; a client whose connection is refused tries
    another node. So the stores' share is set aside first, and connections get the rest.
    """

    state_tables: int  # per state: there are two during the installation of a snapshot
    log_tables: int
    client_connections: int
    peer_connections: int


def raise_soft_limit() -> int:
    """Raise the soft limit of descriptors to the hard limit; returns the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            return soft  # some systems refuse their own hard limit
    return hard


def limit() -> int:
    """The limit of descriptors in force."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def divide(limit: int) -> Descriptors:
    """The shares of a process that may open `limit` files.

    A fifth, twice, is for the tables of the state: reopening a table for a read blocks the event
    loop for milliseconds. Raises `ConfigurationError` if the limit is too low.
    """
    if limit < LIMIT_MIN:
        raise ConfigurationError(
            f"this process may open {limit} files, but a node needs at least {LIMIT_MIN}. Fix:"
            " raise its limit, with `ulimit -n 65536` in the shell that starts it,"
            " LimitNOFILE=65536 in its systemd unit, or --ulimit nofile=65536 for its container.",
            key="RLIMIT_NOFILE",
            limit=LIMIT_MIN,
        )
    state_tables = max(STATE_TABLES_MIN, (limit - OWN) // 5)
    connections = limit - OWN - LOG_TABLES - 2 * state_tables
    peers = min(PEER_CONNECTIONS_MAX, max(PEER_CONNECTIONS_MIN, connections // 4))
    clients = min(CLIENT_CONNECTIONS_MAX, connections - peers)
    return Descriptors(state_tables, LOG_TABLES, clients, peers)

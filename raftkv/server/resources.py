"""What this process and its disk look like to the operating system."""

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
    # Read from the package's metadata, which costs a millisecond; every status tells it.
    try:
        return importlib.metadata.version("raftkv")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def memory_bytes() -> int:
    """Resident memory now; where /proc is missing, its highest so far."""
    try:
        resident_pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return resident_pages * os.sysconf("SC_PAGE_SIZE")


def disk_free_bytes(directory: Path) -> int:
    """Space left to us on the disk of `directory`; 0 if the system does not say."""
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return 0


LIMIT_MIN = 192
"""Fewer descriptors are not enough to run a node."""

OWN = 80
"""Measured: 45 on an idle node of three, stores included. Links to six peers, snapshots in both
directions, a verification of each store and a compaction's outputs are another 25."""

LOG_TABLES = 16
STATE_TABLES_MIN = 24
PEER_CONNECTIONS_MIN, PEER_CONNECTIONS_MAX = 16, 64
CLIENT_CONNECTIONS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Descriptors:
    """How many of each kind may be open at once."""

    state_tables: int  # of one state: while a snapshot is installed there are two
    log_tables: int
    client_connections: int
    peer_connections: int


def raise_soft_limit() -> int:
    """Take all the descriptors that this process may have; how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            return soft  # some systems have a lower bound than the one that they name
    return hard


def limit() -> int:
    """The limit in force."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def divide(limit: int) -> Descriptors:
    """The shares of a process that may open `limit` files.

    A fifth is for the tables of the state, twice: to open one again for a read costs the loop
    milliseconds. Raises `ConfigurationError` if the limit is too low.
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

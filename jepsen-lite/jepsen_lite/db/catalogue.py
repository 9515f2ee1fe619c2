"""All databases by the names that `--system` takes, with the nemeses that each supports."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from jepsen_lite.db import namespaces
from jepsen_lite.db.base import Database
from jepsen_lite.db.compose import ComposeCluster, why_not
from jepsen_lite.db.existing_cluster import ExistingCluster
from jepsen_lite.db.raftkv import RaftkvCluster
from jepsen_lite.db.raftkv_netns import RaftkvNetnsCluster
from jepsen_lite.options import RunOptions

OF_PROCESSES = frozenset({"kill", "pause", "restart"})
OF_NETWORKS = frozenset({"partition", "delay", "reset"})
OF_OPERATORS = frozenset({"transfer", "compaction", "snapshot", "member"})
OF_DISKS = frozenset({"slow-disk", "full-disk", "bit-flip"})
OF_CLOCKS = frozenset({"clock"})


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Where the nodes of a cluster keep their data and their logs."""

    data: Path
    logs: Path


def _nothing(options: RunOptions) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class DatabaseKind:
    """`workloads` None: all there are. `missing` says what there is to be done first; `sizes` are
    the numbers of nodes that a cluster may have.
    """

    summary: str
    make: Callable[[RunOptions, RunPaths], Database]
    nemeses: frozenset[str]
    workloads: frozenset[str] | None = None
    missing: Callable[[RunOptions], str] = _nothing
    sizes: tuple[int, ...] = (3, 5, 7)


def _raftkv(options: RunOptions, paths: RunPaths) -> Database:
    return RaftkvCluster(paths.data, paths.logs, options.nodes)


def _raftkv_netns(options: RunOptions, paths: RunPaths) -> Database:
    return RaftkvNetnsCluster(paths.data, paths.logs, options.nodes)


def _raftkv_netns_missing(options: RunOptions) -> str:
    return namespaces.missing()


def _existing(options: RunOptions, paths: RunPaths) -> Database:
    return ExistingCluster(options.endpoints.split(","))


def _existing_missing(options: RunOptions) -> str:
    return "" if options.endpoints else "say where its nodes are: --endpoints HOST:PORT,..."


def _compose(options: RunOptions, paths: RunPaths) -> Database:
    return ComposeCluster(options.nodes)


def _compose_missing(options: RunOptions) -> str:
    return why_not(options.nodes)


def _etcd(options: RunOptions, paths: RunPaths) -> Database:
    # Imported late: it needs a package that raftkv does not.
    from jepsen_lite.db.etcd import EtcdCluster

    return EtcdCluster(paths.data, paths.logs, options.nodes)


def _etcd_missing(options: RunOptions) -> str:
    if find_spec("aetcd") is None:
        return "the package aetcd is not installed; pip install 'jepsen-lite[etcd]'"
    return "" if shutil.which("etcd") else "etcd is not installed; apt-get install etcd-server"


def database_kind(name: str) -> DatabaseKind:
    """The database of that name, or the `DatabaseKind` that `MODULE:ATTRIBUTE` names.

    Modules of the working directory are found as well. Raises `LookupError` with the cause.
    """
    if name in DATABASES:
        return DATABASES[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        known = ", ".join(sorted(DATABASES))
        raise LookupError(f"system {name!r} is none of {known}, and no MODULE:ATTRIBUTE")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise LookupError(f"system {name!r} can't be imported: {error}") from error
    if not isinstance(found, DatabaseKind):
        raise LookupError(f"{name} is no DatabaseKind but {type(found).__name__}")
    return found


DATABASES: dict[str, DatabaseKind] = {
    "raftkv": DatabaseKind(
        "raftkv as processes of this machine",
        _raftkv,
        OF_PROCESSES | OF_NETWORKS | OF_OPERATORS | OF_DISKS | OF_CLOCKS,
    ),
    "raftkv-netns": DatabaseKind(
        "raftkv in network namespaces, cut by nftables (needs root, iproute2 and nftables)",
        _raftkv_netns,
        OF_PROCESSES | {"partition"} | OF_OPERATORS | OF_DISKS | OF_CLOCKS,
        missing=_raftkv_netns_missing,
    ),
    "existing": DatabaseKind(
        "a raftkv cluster that runs already, at --endpoints",
        _existing,
        frozenset({"transfer", "compaction", "reset"}),
        missing=_existing_missing,
    ),
    "compose": DatabaseKind(
        "the raftkv cluster of docker-compose.yml, running on this machine",
        _compose,
        OF_PROCESSES | {"partition", "transfer", "compaction", "reset"},
        missing=_compose_missing,
    ),
    "etcd": DatabaseKind(
        "etcd as processes of this machine, to check the harness on",
        _etcd,
        OF_PROCESSES | OF_NETWORKS | {"compaction", "slow-disk", "full-disk"},
        frozenset({"register", "set", "counter", "append", "rw-register", "bank", "lock"}),
        _etcd_missing,
    ),
}

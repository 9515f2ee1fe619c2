"""All systems, by the names that the command line knows them by, and what can be done to each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from jepsen_lite.setup import Setup
from jepsen_lite.systems import namespaces
from jepsen_lite.systems.base import System
from jepsen_lite.systems.compose import Compose, why_not
from jepsen_lite.systems.existing import Existing
from jepsen_lite.systems.raftkv import Raftkv
from jepsen_lite.systems.raftkv_netns import RaftkvInNamespaces

OF_PROCESSES = frozenset({"kill", "pause", "restart"})
OF_NETWORKS = frozenset({"partition", "delay", "reset"})
OF_OPERATORS = frozenset({"transfer", "compaction", "snapshot", "member"})
OF_DISKS = frozenset({"slow-disk", "full-disk", "bit-flip"})
OF_CLOCKS = frozenset({"clock"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where the nodes of a cluster keep their data and their logs."""

    data: Path
    logs: Path


def _nothing(setup: Setup) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class SystemKind:
    """`workloads` None: all there are. `missing` says what there is to be done first."""

    summary: str
    make: Callable[[Setup, Place], System]
    nemeses: frozenset[str]
    workloads: frozenset[str] | None = None
    missing: Callable[[Setup], str] = _nothing


def _raftkv(setup: Setup, place: Place) -> System:
    return Raftkv(place.data, place.logs, setup.nodes)


def _raftkv_netns(setup: Setup, place: Place) -> System:
    return RaftkvInNamespaces(place.data, place.logs, setup.nodes)


def _raftkv_netns_missing(setup: Setup) -> str:
    return namespaces.missing()


def _existing(setup: Setup, place: Place) -> System:
    return Existing(setup.endpoints.split(","))


def _existing_missing(setup: Setup) -> str:
    return "" if setup.endpoints else "say where its nodes are: --endpoints HOST:PORT,..."


def _compose(setup: Setup, place: Place) -> System:
    return Compose(setup.nodes)


def _compose_missing(setup: Setup) -> str:
    return why_not(setup.nodes)


def _etcd(setup: Setup, place: Place) -> System:
    # Imported late: it needs a package that raftkv does not.
    from jepsen_lite.systems.etcd import Etcd

    return Etcd(place.data, place.logs, setup.nodes)


def _etcd_missing(setup: Setup) -> str:
    if find_spec("aetcd") is None:
        return "the package aetcd is not installed; pip install 'jepsen-lite[etcd]'"
    return "" if shutil.which("etcd") else "etcd is not installed; apt-get install etcd-server"


SYSTEMS: dict[str, SystemKind] = {
    "raftkv": SystemKind(
        "raftkv as processes of this machine",
        _raftkv,
        OF_PROCESSES | OF_NETWORKS | OF_OPERATORS | OF_DISKS | OF_CLOCKS,
    ),
    "raftkv-netns": SystemKind(
        "raftkv in network namespaces, cut by nftables (needs root, iproute2 and nftables)",
        _raftkv_netns,
        OF_PROCESSES | {"partition"} | OF_OPERATORS | OF_DISKS | OF_CLOCKS,
        missing=_raftkv_netns_missing,
    ),
    "existing": SystemKind(
        "a raftkv cluster that runs already, at --endpoints",
        _existing,
        frozenset({"transfer", "compaction", "reset"}),
        missing=_existing_missing,
    ),
    "compose": SystemKind(
        "the raftkv cluster of docker-compose.yml, running on this machine",
        _compose,
        OF_PROCESSES | {"partition", "transfer", "compaction", "reset"},
        missing=_compose_missing,
    ),
    "etcd": SystemKind(
        "etcd as processes of this machine, to check the harness on",
        _etcd,
        OF_PROCESSES | OF_NETWORKS | {"compaction", "slow-disk", "full-disk"},
        frozenset({"register", "set", "counter", "append", "bank", "lock"}),
        _etcd_missing,
    ),
}

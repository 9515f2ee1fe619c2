"""The Docker commands of the database `compose`, and its complaints about an unfit cluster."""

from __future__ import annotations

import json
import os
from pathlib import Path
from random import Random
from typing import Any

import pytest

from jepsen_lite.db.base import DatabaseFailed
from jepsen_lite.db.compose import ComposeCluster, Container, Found, fewest_ends, why_not
from jepsen_lite.db.existing_cluster import WORKLOAD_PREFIXES
from jepsen_lite.faults.kinds import Isolate, Split
from jepsen_lite.nemesis.network import pairs_of
from jepsen_lite.workloads.catalogue import WORKLOADS

NODES = ("node-1", "node-2", "node-3")


def docker_that(path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A `docker` that does this, and no other."""
    program = path / "docker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path}{os.pathsep}{os.environ['PATH']}")


def container(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "Id": f"{number:064}",
        "Name": f"/project_node{number}_1",
        "State": {"Status": "running"},
        "HostConfig": {"PortBindings": {"7411/tcp": [{"HostPort": str(7410 + number)}]}},
        "NetworkSettings": {"Networks": {"project_default": {"Aliases": [f"node{number}"]}}},
        **changes,
    }


def engine_with(
    path: Path, monkeypatch: pytest.MonkeyPatch, containers: list[dict[str, Any]]
) -> None:
    """An engine that lists all its containers for each service, as other projects have them too."""
    (path / "known").write_text(json.dumps(containers))
    script = f'case "$1" in ps) echo some ids;; inspect) cat {path}/known;; esac'
    docker_that(path, monkeypatch, script)


def test_without_docker_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "apt-get install docker.io" in why_not(3)


def test_an_engine_that_does_not_answer_is_named_with_its_complaint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker_that(tmp_path, monkeypatch, "echo no daemon here >&2; exit 1")
    assert "Docker does not answer" in why_not(3)
    assert "no daemon here" in why_not(3)


def test_the_complaint_about_a_cluster_that_is_not_up_has_the_command_that_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker_that(tmp_path, monkeypatch, "exit 0")
    assert "no container of node1" in why_not(3)
    assert "docker-compose up -d --build" in why_not(3)
    assert "--profile five" in why_not(5)
    assert "3 or 5 nodes" in why_not(7)


def test_every_container_that_is_unfit_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused = container(1, State={"Status": "paused"})
    cut_off = container(3, NetworkSettings={"Networks": {}})
    engine_with(tmp_path, monkeypatch, [paused, container(2), cut_off])
    complaint = why_not(3)
    assert "docker unpause project_node1_1" in complaint
    assert "node2" not in complaint
    assert "project_node3_1 has no network" in complaint


def test_a_stopped_container_of_another_project_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = container(1, Name="/old_node1_1", State={"Status": "exited"})
    engine_with(tmp_path, monkeypatch, [old, *(container(number) for number in (1, 2, 3))])
    assert why_not(3) == ""


async def test_a_container_that_can_not_be_recovered_does_not_keep_others_from_recovery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f'echo "$@" >> {tmp_path}/asked; case "$*" in "unpause one") exit 1;; esac'
    docker_that(tmp_path, monkeypatch, script)
    system = ComposeCluster(2)
    system._containers = {name: Container(name, Found(name, "", {})) for name in ("one", "two")}
    for each in system._containers.values():
        await each.pause()
    with pytest.raises(DatabaseFailed, match="unpause one"):
        await system.stop()
    assert "unpause two" in (tmp_path / "asked").read_text()


@pytest.mark.parametrize(
    ("partition", "off"),
    [
        (Isolate(0, 0, "node-2", True, True, clients_too=False), {"node-2"}),
        (Isolate(0, 0, "node-3", True, True, clients_too=True), {"node-3"}),
        (Isolate(0, 0, "node-1", False, True, clients_too=False), {"node-1"}),
        (Split(0, 0, ("node-3",), "", one_way=False), {"node-3"}),
    ],
)
def test_the_fewest_nodes_lose_their_network_that_cut_all_links(
    partition: Isolate | Split, off: set[str]
) -> None:
    assert set(fewest_ends(pairs_of(partition, NODES), NODES)) == off


@pytest.mark.parametrize("name", ["register", "set", "counter", "session", "staleness"])
def test_leftovers_of_earlier_runs_are_recognised_by_their_keys(name: str) -> None:
    workload, rng = WORKLOADS[name](), Random(1)
    drawn = [workload.next(rng, seat) for seat in range(5) for _ in range(20)]
    assert all(key.startswith(WORKLOAD_PREFIXES) for key in {each.key for each in drawn})

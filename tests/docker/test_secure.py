"""The profile `secure` of docker-compose.yml: TLS on both ports, and authentication."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import raftkv
from tests.cluster.cluster import eventually
from tests.docker.compose import ComposeCluster, why_not

# The first build fetches packages.
pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

SERVICES = ("secure1", "secure2", "secure3")
PATIENT = ("raftkv", "--timeout", "30")  # containers share few cores with others here
ENDPOINTS = "127.0.0.1:7421,127.0.0.1:7422,127.0.0.1:7423"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ComposeCluster]:
    if reason := why_not():
        pytest.skip(reason)
    cluster = ComposeCluster(f"raftkv-secure-test-{os.getpid()}")
    try:
        cluster.build()
        cluster.up_secure()
        yield cluster
    finally:
        cluster.down()
    assert not cluster.volumes()


@pytest.fixture(scope="module")
def authority(cluster: ComposeCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of the cluster's CA, for clients on this machine."""
    file = tmp_path_factory.mktemp("secure") / "ca.pem"
    file.write_text(cluster.exec("secure1", "cat", "/etc/raftkv/ca.pem"))
    return file


async def test_every_node_becomes_healthy(cluster: ComposeCluster) -> None:
    async def healthy() -> bool:
        states = [cluster.inspect_service(service)["State"] for service in SERVICES]
        return all(state["Health"]["Status"] == "healthy" for state in states)

    await eventually(healthy, "Docker finds the nodes healthy", timeout_s=60)


def test_root_sees_all_nodes_and_writes_and_reads_inside_a_container(
    cluster: ComposeCluster,
) -> None:
    status = cluster.exec("secure1", *PATIENT, "status")
    assert [line.split()[1] for line in status.splitlines()[1:]] == [
        f"{service}:7411" for service in SERVICES
    ]
    cluster.exec("secure1", *PATIENT, "put", "greeting", "hello")
    assert cluster.exec("secure3", *PATIENT, "get", "greeting").strip() == "hello"


def test_a_caller_without_a_password_is_refused_inside_a_container(
    cluster: ComposeCluster,
) -> None:
    for command in (["get", "greeting"], ["put", "greeting", "bye"]):
        with pytest.raises(AssertionError, match=r"ended with 6:[\s\S]*is not authenticated"):
            cluster.exec("secure2", *PATIENT, *command, RAFTKV_USER="", RAFTKV_PASSWORD_FILE="")


async def test_from_this_machine_root_is_served_and_others_are_refused(
    cluster: ComposeCluster, authority: Path
) -> None:
    password = cluster.exec("secure1", "cat", "/etc/raftkv/root-password").strip()
    tls = raftkv.Tls(ca_file=authority)
    async with raftkv.connect(ENDPOINTS, tls=tls, user="root", password=password) as root:
        await root.put("from", "outside")
        for stranger, refusal in (
            (raftkv.connect(ENDPOINTS, tls=tls), raftkv.Unauthenticated),
            (
                raftkv.connect(ENDPOINTS, tls=tls, user="root", password=password[::-1]),
                raftkv.Unauthenticated,
            ),
            (raftkv.connect(ENDPOINTS, timeout=2), raftkv.Unavailable),  # in plaintext
        ):
            with pytest.raises(refusal):
                async with stranger as client:
                    await client.put("from", "a stranger")
        found = await root.get("from")
        assert found is not None
        assert found.value == b"outside"

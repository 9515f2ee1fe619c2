"""The pods of deploy/kubernetes as containers: their environment, names, secret and a random uid.

Names resolve to addresses that change when a pod starts again, as those of a headless service do.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import eventually
from tests.deploy.manifests import NAMESPACE, container, environment, host_of, pod_indexes
from tests.docker.compose import ComposeCluster, run, why_not

# The first build fetches packages.
pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

RANDOM_UID = "1000660000"
START_APART_S = 60.0

MAKE_CERTIFICATES = """
raftkv certs init /certs --cluster-name raftkv
for id in {ids}; do
  raftkv certs node $id --dir /certs --host raftkv-$id.raftkv-nodes.{namespace}.svc \
    --host raftkv --host localhost --host 127.0.0.1
done
raftkv certs user root --dir /certs
chgrp 0 /certs/*
chmod 440 /certs/*
chmod 755 /certs
"""


class Pods:
    """Containers of one network; `close` leaves nothing of them."""

    def __init__(self) -> None:
        self.name = f"raftkv-pods-{os.getpid()}"
        self.certificates = f"{self.name}-certs"

    def prepare(self) -> None:
        """The network, and the secret as a volume: files of root's that its group may read."""
        run("docker", "network", "create", self.name)
        script = MAKE_CERTIFICATES.format(
            ids=" ".join(map(str, pod_indexes())), namespace=NAMESPACE
        )
        volume = f"{self.certificates}:/certs"
        run(
            *("docker", "run", "--rm", "--user", "0", "--volume", volume),
            *("--entrypoint", "sh", "raftkv", "-euc", script),
        )

    def pod(self, index: int) -> str:
        return f"{self.name}-{index}"

    def start(self, index: int) -> None:
        """The pod with its volume, at the next free address."""
        variables = [f"--env={name}={value}" for name, value in environment(index).items()]
        probe = container()["readinessProbe"]["exec"]["command"]
        run(
            *("docker", "run", "--detach", "--name", self.pod(index)),
            *("--network", self.name, "--network-alias", host_of(index)),
            *("--user", f"{RANDOM_UID}:0", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
            *("--volume", f"{self.pod(index)}:/var/lib/raftkv"),
            *("--volume", f"{self.certificates}:/certs:ro"),
            *("--env", f"HEALTHCHECK_ADDRESS={probe[2]}", *variables),
            *("raftkv", *container()["args"]),
        )

    def stop(self, index: int) -> None:
        """As the end of a pod: SIGTERM, and the container is gone; its volume stays."""
        run("docker", "stop", self.pod(index))
        run("docker", "rm", self.pod(index))

    def take_address(self, index: int) -> None:
        """Start another container, which gets the free address of the pod that has stopped."""
        run(
            *("docker", "run", "--detach", "--name", f"{self.pod(index)}-other"),
            *("--network", self.name, "--entrypoint", "sleep", "raftkv", "600"),
        )

    def address(self, index: int) -> str:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return run("docker", "inspect", "--format", form, self.pod(index)).strip()

    def exec(self, index: int, *command: str) -> str:
        """As the user root of the cluster, by its certificate."""
        own = (
            "--timeout",
            "30",
            "--cert",
            "/certs/user-root.pem",
            "--key",
            "/certs/user-root-key.pem",
        )
        return run("docker", "exec", self.pod(index), *command, *own)

    async def healthy(self) -> None:
        """Wait until the health check of the image finds every node healthy."""

        async def all_healthy() -> bool:
            form = "{{.State.Health.Status}}"
            names = [self.pod(index) for index in pod_indexes()]
            states = await asyncio.to_thread(run, "docker", "inspect", "--format", form, *names)
            return set(states.split()) == {"healthy"}

        await eventually(all_healthy, "all nodes are healthy", timeout_s=90)

    def close(self) -> None:
        for index in pod_indexes():
            run("docker", "rm", "--force", self.pod(index), f"{self.pod(index)}-other")
            run("docker", "volume", "rm", "--force", self.pod(index))
        run("docker", "volume", "rm", "--force", self.certificates)
        run("docker", "network", "rm", self.name)


@pytest.fixture
def pods() -> Iterator[Pods]:
    if reason := why_not():
        pytest.skip(reason)
    ComposeCluster("raftkv-pods-build").build()
    pods = Pods()
    try:
        pods.prepare()
        yield pods
    finally:
        pods.close()


async def test_nodes_that_start_a_minute_apart_found_a_cluster_and_return_at_other_addresses(
    pods: Pods,
) -> None:
    first, *others = pod_indexes()
    pods.start(first)
    await asyncio.sleep(START_APART_S)
    for index in others:
        pods.start(index)
    await pods.healthy()
    pods.exec(first, "raftkv", "put", "greeting", "hello")
    for index in pod_indexes():
        address = pods.address(index)
        pods.stop(index)
        pods.take_address(index)
        pods.start(index)
        assert pods.address(index) != address
        await pods.healthy()
        assert pods.exec(index, "raftkv", "get", "greeting").strip() == "hello"
    members = pods.exec(first, "raftkv", "member", "list")
    assert members.count("voter") == len(pod_indexes())


def test_the_image_has_labels(pods: Pods) -> None:
    labels = run("docker", "image", "inspect", "--format", "{{json .Config.Labels}}", "raftkv")
    assert '"org.opencontainers.image.licenses":"Apache-2.0"' in labels

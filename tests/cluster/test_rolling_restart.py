"""`raftkv drain` and `raftkv autopilot` around the restart of every node, one after the other."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raftkv.cli.exit_codes import ExitCode
from tests.cluster.cluster import Cluster, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def raftkv(cluster: Cluster, *arguments: str) -> tuple[int, Any, str]:
    """Exit code, JSON from standard output, and the text on standard error."""
    command = [sys.executable, "-m", "raftkv", "-e", cluster.endpoints, "-o", "json", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    return ran.returncode, json.loads(ran.stdout) if ran.stdout else None, ran.stderr


async def test_every_node_is_drained_and_restarted_and_then_one_may_not_be_stopped(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, 3) as cluster:
        # The leader first: the others follow in the order of their ids.
        for node_id in (await cluster.leader(), 1, 2, 3):
            code, drained, error = raftkv(cluster, "drain", str(node_id))
            assert code == 0, error
            assert drained["safe_to_stop"] == node_id
            assert drained["leader"] not in (0, node_id)
            assert (await cluster.status(drained["leader"])).role.value == "leader"
            cluster.nodes[node_id].send(signal.SIGTERM)
            assert cluster.nodes[node_id].wait() == 0
            cluster.start(node_id)
            await cluster.ready(node_id)
            await eventually(lambda: healthy(cluster), "all members are healthy")

        down = await cluster.leader()
        cluster.nodes[down].kill()
        left = [node_id for node_id in cluster.nodes if node_id != down]
        await eventually(lambda: leads(cluster, left), "another node leads")
        code, health, _ = raftkv(cluster, "autopilot")
        assert code == ExitCode.ERROR
        assert (health["healthy_voters"], health["failures_tolerated"]) == (2, 0)
        code, _, error = raftkv(cluster, "drain", str(left[0]), "--timeout", "1")
        assert code == ExitCode.REFUSED
        assert "1 other healthy voters would remain" in error
        assert f"node {down}: unreachable" in error

        # Without a majority it still says what each node is like.
        cluster.nodes[left[0]].kill()
        code, health, _ = raftkv(cluster, "autopilot")
        assert code == ExitCode.ERROR
        answering = [each["node_id"] for each in health["members"] if not each["trouble"]]
        assert answering == [left[1]]
        assert health["failures_tolerated"] == 0


async def healthy(cluster: Cluster) -> bool:
    code, health, _ = raftkv(cluster, "autopilot")
    assert (code == 0) is health["healthy"]
    return code == 0 and health["failures_tolerated"] == 1


async def leads(cluster: Cluster, node_ids: list[int]) -> bool:
    return any([(await cluster.status(id)).role.value == "leader" for id in node_ids])

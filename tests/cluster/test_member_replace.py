"""One command replaces a lost node, and no mistake on the way costs the majority."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import raftkv
from jepsen_lite.ports import free_ports
from tests.cluster.cluster import Cluster, eventually
from tests.cluster.test_faults import Writers, lost, stored

pytestmark = pytest.mark.cluster

COMMAND_S_MAX = 60.0


class Command:
    """A `raftkv` process, whose standard error is read line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def said(self, wanted: str) -> str:
        """The next line with these words in it."""
        assert self.process.stderr is not None
        async with asyncio.timeout(COMMAND_S_MAX):
            async for line in self.process.stderr:
                if wanted in line.decode():
                    return line.decode()
        raise AssertionError(f"it ended without a word of {wanted!r}")

    async def ended(self) -> tuple[int, str, str]:
        """Exit code, standard output, and what is left of standard error."""
        async with asyncio.timeout(COMMAND_S_MAX):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def command(cluster: Cluster, *arguments: str) -> AsyncIterator[Command]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAFTKV_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "raftkv", "--endpoints", cluster.endpoints, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        yield Command(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.slow
async def test_a_dead_node_is_replaced_under_load_by_one_command_that_may_be_interrupted(
    tmp_path: Path,
) -> None:
    settings = "--set log_compaction_bytes=1048576 --set log_retained_bytes=65536"
    async with Cluster(tmp_path, 3, settings=settings) as cluster, cluster.client() as client:
        for number in range(300):  # so that the newcomer needs a snapshot
            await client.put(f"bulk/{number}", b"x" * 10_000)
        writers = Writers(client)
        await writers.more()
        dead = await cluster.leader()
        cluster.nodes[dead].kill()
        await writers.more()
        newcomer = cluster.make_node(4)
        addresses = ("--peer", newcomer.peer_address, "--client", newcomer.client_address)

        async with command(cluster, "member", "replace", str(dead), "4", *addresses) as first:
            serve_line = await first.said("Now start it")
            first.process.send_signal(signal.SIGINT)
            code, _, _ = await first.ended()
        assert code != 0
        flags = serve_line.split("raftkv serve ")[1].split()
        newcomer.start(*flags, *cluster.settings)
        async with command(cluster, "member", "replace", str(dead), "4") as second:
            code, out, err = await second.ended()

        assert code == 0, err
        voters = {line.split("\t")[0] for line in out.splitlines() if "voter" in line}
        assert voters == {"1", "2", "3", "4"} - {str(dead)}
        await writers.more()
        await writers.stop()
        assert not writers.unknown
        assert "snapshot_installed" in newcomer.log()
        await cluster.ready(4)
        async with cluster.client(4) as direct:
            assert not lost(writers, await stored(direct))
        cluster.start(dead)
        assert cluster.nodes[dead].wait() == 0  # it learns that it was replaced


async def test_a_live_node_is_not_removed_by_mistake_while_another_is_dead(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        leader = await cluster.leader()
        dead, alive = sorted({1, 2, 3} - {leader})
        cluster.nodes[dead].kill()
        said = rf"2 of 3 voters acknowledge \(nodes .*\); after this change 1 of 2 would, .*{dead}"
        with pytest.raises(raftkv.MembershipRefused, match=said):
            await client.member_remove(alive, timeout=10)
        await client.put("still", "works")
        # Whatever repairs the cluster is still possible.
        peer_port, client_port = free_ports(2)
        await client.member_add(4, f"127.0.0.1:{peer_port}", f"127.0.0.1:{client_port}")
        await client.member_remove(4, timeout=10)
        members = await client.member_remove(dead, timeout=10)
        assert {member.node_id for member in members} == {leader, alive}
        await client.put("still", "works")


async def test_a_forced_removal_takes_effect_once_its_majority_is_back(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        leader = await cluster.leader()
        dead, alive = sorted({1, 2, 3} - {leader})
        cluster.nodes[dead].kill()
        with pytest.raises(raftkv.OutcomeUnknown):
            await client.member_remove(alive, force=True, timeout=1)
        cluster.start(dead)

        async def removed() -> bool:
            try:
                members = await client.member_list(timeout=5)
            except raftkv.RaftkvError:
                return False
            return {member.node_id for member in members} == {leader, dead}

        await eventually(removed, "the forced removal is committed")
        await client.put("life goes on", "yes", timeout=20)


async def test_a_member_that_has_moved_is_found_at_its_new_address(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        node = await cluster.join(4)
        await cluster.ready(4)
        node.kill()
        peer_port, client_port = free_ports(2)
        node.move(client_port, peer_port)
        await client.member_update(
            4, peer_address=node.peer_address, client_address=node.client_address
        )
        await client.put("moved", "yes")
        node.start("--join", cluster.nodes[1].client_address)
        await cluster.ready(4)
        async with cluster.client(4) as direct:
            assert await direct.get("moved") is not None


async def test_a_node_with_an_unusable_address_can_not_be_added(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 1) as cluster, cluster.client() as client:
        taken = cluster.nodes[1]
        for peer, reason in (
            ("0.0.0.0:7514", raftkv.InvalidRequest),
            ("10.0.0.4:7514", raftkv.MembershipRefused),
            (taken.peer_address, raftkv.MembershipRefused),
            (taken.client_address, raftkv.MembershipRefused),
        ):
            with pytest.raises(reason):
                await client.member_add(4, peer, "127.0.0.1:7414")
        assert len(await client.member_list()) == 1

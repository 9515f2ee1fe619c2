"""A node on a full disk of its own refuses puts, and serves them again after a compaction."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import raftkv
from jepsen_lite.ports import free_ports
from raftkv.errors import DiskFull, RaftkvError
from tests.cluster.cluster import NodeProcess, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

DISK_MIB = 500
VALUE = os.urandom(20_000)
KEYS = 10


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(path))
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield path
    subprocess.run(("umount", str(path)), check=True)


async def test_a_full_node_restarts_is_compacted_and_takes_puts_again(disk: Path) -> None:
    client_port, peer_port = free_ports(2)
    node = NodeProcess(1, disk / "node", client_port, peer_port, peer_port)
    arguments = (
        *("--initial-members", f"1={node.peer_address}/{node.client_address}"),
        *("--set", f"disk_reserve_bytes={128 << 20}"),
    )
    node.start(*arguments)
    try:
        async with raftkv.connect(node.client_address, timeout=20.0) as client:
            with pytest.raises(RaftkvError):
                await overwrite_for_ever(client)
        node.kill()
        fill_up(disk)

        node.start(*arguments)
        async with raftkv.connect(node.client_address, timeout=20.0) as client:
            found = await client.get("k/1")
            assert found is not None
            fill_up(disk, free_bytes=40 << 20)  # as it was before the start, which has freed logs
            await eventually(lambda: refuses_puts(client), "the node sees that its disk is low")
            with pytest.raises(DiskFull, match="raftkv compact"):
                await client.put("k/1", VALUE)
            await client.compact(found.mod_revision)

            async def takes_puts() -> bool:
                await client.delete("nothing")  # an entry, and with it a step of the compaction
                return not await refuses_puts(client)

            await eventually(takes_puts, "the space of the history came back", 60.0)
    finally:
        node.kill()


async def overwrite_for_ever(client: raftkv.Client) -> None:
    while True:
        await asyncio.gather(*(client.put(f"k/{number}", VALUE) for number in range(KEYS)))


async def refuses_puts(client: raftkv.Client) -> bool:
    try:
        await client.put("k/1", b"again")
    except DiskFull:
        return True
    return False


def fill_up(disk: Path, free_bytes: int = 0) -> None:
    """Leave not more than that free."""
    with suppress(OSError), (disk / "ballast").open("ab", buffering=0) as file:
        while shutil.disk_usage(disk).free > free_bytes:
            file.write(b"x" * 65_536)

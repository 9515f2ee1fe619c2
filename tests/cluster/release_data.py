"""The data directories of a release, kept as test data: what they hold, and how they are made.

    python -m tests.cluster.release_data [--baseline DIRECTORY] FILE.tar.xz

makes them with this program, or with the wheel that `scripts/baseline-wheel DIRECTORY` has built.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import raftkv
from raftkv.versions import AUTHENTICATED
from tests.cluster.cluster import Cluster, eventually

DATA = Path(__file__).with_name("data")
LEASE_TTL_S = 3600.0
VALUE = b"119 " * 300


def program_of_wheel(directory: Path) -> Sequence[str]:
    """What Python runs to be the release whose wheel is in the directory."""
    (wheel,) = directory.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory)
    program = (
        f"import sys; sys.path.insert(0, {str(directory)!r}); import raftkv.cli.main as cli;"
        f" assert cli.__file__.startswith({str(directory)!r}); cli.main()"
    )
    return "-c", program


async def write(client: raftkv.Client, cluster_version: int) -> None:
    """Rows of every family."""
    for number in range(30):
        await client.put(f"k/{number}", VALUE)
    first = await client.put("history", "first")
    await client.compact(first.revision - 1)
    await client.put("history", "second")
    await client.delete("k/0")
    await client.put("counted", "once", idempotency_key="order-17")
    granted = await client.lease_grant(LEASE_TTL_S)
    await client.put("leased", "yes", lease=granted.lease)
    await client.acquire("job", LEASE_TTL_S)
    if cluster_version >= AUTHENTICATED:
        await client.auth.user_add("alice", "wonderland")
        await client.auth.role_add("reader")
        await client.auth.role_grant("reader", access="read", prefix="k/")
        await client.auth.user_grant_role("alice", "reader")


async def check(client: raftkv.Client, cluster_version: int) -> None:
    """What `write` has written is there, and means the same."""
    assert (await client.get("k/29")).value == VALUE
    assert await client.get("k/0") is None
    second = await client.get("history")
    assert second.value == b"second"
    assert (await client.get("history", revision=second.mod_revision - 1)).value == b"first"
    before = await client.get("counted")
    await client.put("counted", "once", idempotency_key="order-17")
    assert (await client.get("counted")).version == before.version == 1
    leases = [await client.lease_time_to_live(each, keys=True) for each in await client.leases()]
    assert all(0 < each.left_s <= LEASE_TTL_S for each in leases)
    assert {key.split(b"/")[0] for each in leases for key in each.keys} == {b"leased", b"job"}
    assert (await client.lock_info("job")).holder is not None
    for each in leases:
        await client.lease_revoke(each.lease)
    assert await client.get("leased") is None
    assert (await client.lock_info("job")).holder is None
    if cluster_version >= AUTHENTICATED:
        (alice,) = await client.auth.user_list()
        assert (alice.name, alice.roles) == ("alice", ("reader",))


async def make(file: Path, program: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as base:
        cluster = Cluster(Path(base), 3)
        for node in cluster.nodes.values():
            node.be(program)
        async with cluster, cluster.client() as client:
            version = 0

            async def settled() -> bool:
                nonlocal version
                before = version
                version = (await cluster.status(1)).cluster_version
                members = await client.member_list()
                return version == before and all(each.started for each in members)

            await eventually(settled, "the cluster version stays")
            await write(client, version)
            for node in cluster.nodes.values():
                node.send(signal.SIGTERM)
            for node in cluster.nodes.values():
                assert await asyncio.to_thread(node.wait) == 0
        with tarfile.open(file, "w:xz") as archive:
            for node_id in cluster.nodes:
                archive.add(Path(base) / f"node-{node_id}", f"node-{node_id}")
        print(f"{file}: cluster version {version}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--baseline", type=Path)
    parser.add_argument("file", type=Path)
    chosen = parser.parse_args()
    program = program_of_wheel(chosen.baseline.resolve()) if chosen.baseline else ()
    asyncio.run(make(chosen.file.resolve(), program))


if __name__ == "__main__":
    main()

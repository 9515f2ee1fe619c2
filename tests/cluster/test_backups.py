"""A backup of a real cluster under load, and the new cluster that is restored from it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import raftkv
from raftkv.cli.exit_codes import ExitCode
from raftkv.rpc.v1 import api_pb2
from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PASSWORD = "correct horse battery"
KEYS = 2_000


class OneUser(Cluster):
    """A cluster whose clients are the user root, once there is one."""

    authenticates = False

    def client(self, *node_ids: int) -> raftkv.Client:
        chosen = [self.nodes[node_id].client_address for node_id in node_ids or self.nodes]
        settings = raftkv.ClientSettings(follow_members=not node_ids)
        user, password = ("root", PASSWORD) if self.authenticates else (None, None)
        return raftkv.connect(chosen, settings=settings, user=user, password=password)

    async def enable_authentication(self) -> None:
        async with self.client() as client:
            await client.auth.user_add("root", PASSWORD)
            await client.auth.user_grant_role("root", "root")
        self.authenticates = True
        async with self.client() as client:
            await client.auth.enable()

    async def run(self, *arguments: object, code: int = ExitCode.OK) -> Any:
        """Run `raftkv` as root; its result."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAFTKV_")}
        password = self.base / "password"
        password.write_text(PASSWORD)
        password.chmod(0o600)
        environment |= {"RAFTKV_USER": "root", "RAFTKV_PASSWORD_FILE": str(password)}
        command = [sys.executable, "-m", "raftkv", "-o", "json", *map(str, arguments)]
        ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, env=environment)
        assert ran.returncode == code, ran.stderr.decode()
        return json.loads(ran.stdout) if code == ExitCode.OK else ran.stderr.decode()

    async def token_of_session(self) -> str:
        async with self.client() as client:
            request = api_pb2.AuthenticateRequest(name="root", password=PASSWORD)
            return (await client._unary.authenticate(request, 10.0)).token


async def write_on(client: raftkv.Client, stopped: asyncio.Event) -> int:
    """Keys in pairs of one transaction each: a backup has both or none. How many were written."""
    written = 0
    while not stopped.is_set():
        async with asyncio.TaskGroup() as group:
            for number in range(written, written + 20):
                group.create_task(
                    client.txn(
                        success=[
                            raftkv.op.put(f"left/{number}", "x" * 100),
                            raftkv.op.put(f"right/{number}", "x" * 100),
                        ]
                    )
                )
        written += 20
    return written


async def test_a_cluster_restored_from_a_backup_under_load_is_a_new_one_with_the_old_keys(
    tmp_path: Path,
) -> None:
    backup, key = tmp_path / "backup", tmp_path / "key"
    key.write_text("the key of the operator")
    key.chmod(0o600)
    async with OneUser(tmp_path, 3) as old:
        await old.enable_authentication()
        old_token = await old.token_of_session()
        leader = await old.leader()
        follower = next(node for id, node in old.nodes.items() if id != leader)
        async with old.client() as client:
            for first in range(0, KEYS, 500):
                await asyncio.gather(
                    *(client.put(f"k{n}", f"value {n}") for n in range(first, first + 500))
                )
            service = (await client.auth.token_create("root")).token
            lock = client.lock("job", ttl=60.0)
            await lock.acquire()
            fence = ("job", lock.token)
            await client.put("fenced", "by the holder", fence=fence)
            stopped = asyncio.Event()
            load = asyncio.create_task(write_on(client, stopped))
            saved = await old.run(
                "-e", follower.client_address, "backup", "save", backup, "--key-file", key
            )
            stopped.set()
            written = await load
            last_revision = (await client.put("after", "the backup")).revision
            assert saved["node"] == follower.node_id
            refused = await old.run("backup", "save", backup, "-e", old.endpoints, code=2)
            assert "left as it is" in refused
            shown = await old.run("backup", "show", backup)
            verified = await old.run("backup", "verify", backup, "--key-file", key)
            assert shown["revision"] == verified["revision"] == saved["revision"] < last_revision
            assert shown["encrypted"]
            old_incarnation = shown["incarnation"]
        for node in old.nodes.values():
            node.send(signal.SIGKILL)
            node.wait()

        # The new cluster has the addresses of the old one. Node 3 first starts from its old disk.
        restored = {"restore_id": ""}
        for node_id, node in old.nodes.items():
            node.directory = tmp_path / f"new-{node_id}" if node_id < 3 else node.directory
            restored = await old.run(
                *("backup", "restore", backup, "--key-file", key, "--node-id", node_id),
                *("--data-dir", tmp_path / f"new-{node_id}"),
                *("--initial-members", old.initial_members),
                *(("--restore-id", restored["restore_id"]) if restored["restore_id"] else ()),
            )
        assert restored["revision"] == saved["revision"] + 1_000_000_000
        assert restored["keys_of_leases"] == 1
        assert restored["incarnation"] != old_incarnation
        old.start(1)
        old.start(2)
        old.start(3)
        await old.ready(1, 2)
        async with old.client(1, 2) as client:
            assert (await client.status(old.nodes[1].client_address)).revision > last_revision
        assert not old.nodes[3].running or "incarnation" in old.nodes[3].log()
        old.nodes[3].kill()
        old.nodes[3].directory = tmp_path / "new-3"
        old.start(3)
        await old.ready(3)

        async with old.client() as client:  # logs in with the old password
            for n in (0, 1, KEYS - 1):
                assert (await client.get(f"k{n}")).value == f"value {n}".encode()  # type: ignore[union-attr]
            assert await client.get("after") is None
            left, right = [
                {kv.key.split(b"/")[1] async for kv in client.scan(start, end)}
                for start, end in ((b"left/", b"left0"), (b"right/", b"right0"))
            ]
            assert left == right
            assert len(left) <= written
            with pytest.raises(raftkv.FencedOff):
                await client.put("fenced", "late", fence=fence)
            async with client.lock("job") as lock:
                assert lock.token > last_revision
            for revision in (saved["revision"] + 1, last_revision + 1):
                with pytest.raises(raftkv.RevisionCompacted):
                    async with client.watch("k0", from_revision=revision) as watch:
                        await anext(watch)
            statuses = [await old.status(node_id) for node_id in old.nodes]
            assert {f"{each.incarnation:016x}" for each in statuses} == {restored["incarnation"]}
        for token in (old_token, service):
            with pytest.raises(raftkv.Unauthenticated):
                async with raftkv.connect(old.endpoints, token=token) as client:
                    await client.get("k0")

"""Clients by TLS against a real node behind proxies that demand TLS and a client certificate."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import raftkv
from jepsen_lite.ports import free_ports
from raftkv.cli.exit_codes import ExitCode
from raftkv.client.tls import Tls
from raftkv.config import Settings
from raftkv.server.process import NodeProcess
from tests.client.tls_servers import Certificates, TlsProxy

pytestmark = pytest.mark.cluster


class SecuredNode:
    """A node that takes plaintext, and two ways to it by TLS: one that is given, one learnt."""

    def __init__(self, certificates: Certificates, given: TlsProxy, port: int) -> None:
        self.certificates = certificates
        self.given = given
        self.address = f"127.0.0.1:{port}"

    @property
    def tls(self) -> Tls:
        return self.certificates.user("alice")

    @property
    def environment(self) -> dict[str, str]:
        tls = self.tls
        names = {
            "RAFTKV_ENDPOINTS": f"raftkvs://{self.address}",
            "RAFTKV_CACERT": tls.ca_file,
            "RAFTKV_CERT": tls.cert_file,
            "RAFTKV_KEY": tls.key_file,
        }
        return {name: os.fspath(value) for name, value in names.items() if value is not None}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[SecuredNode]:
    certificates = Certificates(tmp_path / "certs")
    listens, peer, advertised = free_ports(3)
    settings = Settings(
        data_dir=tmp_path / "node",
        client_listen=f"127.0.0.1:{listens}",
        client_advertise=f"127.0.0.1:{advertised}",
        peer_listen=f"127.0.0.1:{peer}",
        http_listen="off",
        tick_ms=10,
        disk_reserve_bytes=0,
    )
    proxies = [TlsProxy(certificates.node(), certificates.ca, listens) for _ in range(2)]
    process = NodeProcess(settings)
    await process.start()
    try:
        port = await proxies[0].start()
        await proxies[1].start(advertised)
        yield SecuredNode(certificates, proxies[0], port)
    finally:
        for proxy in proxies:
            await proxy.stop()
        await process.stop()


async def test_calls_watches_and_learnt_members_all_go_by_tls(node: SecuredNode) -> None:
    """The proxies take nothing else, and the node's own port is named nowhere."""
    async with raftkv.connect(f"raftkvs://{node.address}", tls=node.tls) as client:
        assert (await client.member_list())[0].client_address != node.address
        async with client.watch("key") as watch:
            await client.put("key", "1")
            assert (await anext(watch)).value == b"1"
            await node.given.stop()
            # Only the member's address is left, which the client has from the cluster.
            await client.put("key", "2", timeout=20.0)
            assert (await anext(watch)).value == b"2"


async def test_a_synchronous_client_takes_the_files_of_the_environment(
    node: SecuredNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in node.environment.items():
        monkeypatch.setenv(name, value)

    def work() -> bytes | None:
        with raftkv.connect_sync(f"raftkvs://{node.address}") as client:
            client.put("key", "by a thread")
            found = client.get("key")
            return None if found is None else found.value

    assert await asyncio.to_thread(work) == b"by a thread"


async def raftkv_command(*arguments: str, env: dict[str, str]) -> tuple[int, str]:
    """The exit code and all output of `raftkv`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAFTKV_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "raftkv", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=clean | env,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_every_command_takes_the_files_from_options_or_environment(
    node: SecuredNode,
) -> None:
    tls = node.tls
    options = (
        *("--cacert", str(tls.ca_file), "--cert", str(tls.cert_file), "--key", str(tls.key_file)),
        *("--endpoints", node.address),
    )
    assert (await raftkv_command("put", "key", "1", *options, env={}))[0] == ExitCode.OK
    assert await raftkv_command("get", "key", env=node.environment) == (ExitCode.OK, "1")
    code, text = await raftkv_command("health", node.address, env=node.environment)
    assert (code, text.split()) == (ExitCode.OK, ["health", "serving"])
    assert (await raftkv_command("status", env=node.environment))[0] == ExitCode.OK


async def test_a_command_says_what_is_missing(node: SecuredNode) -> None:
    code, text = await raftkv_command("get", "key", "-e", node.address, "--timeout", "1", env={})
    assert code == ExitCode.UNAVAILABLE
    assert f"write raftkvs://{node.address} or give tls= (--cacert)" in text
    ca = str(node.certificates.ca)
    code, text = await raftkv_command("health", node.address, "--cacert", ca, env={})
    assert code == ExitCode.UNAVAILABLE
    assert "most likely it demands a client certificate" in text
    code, text = await raftkv_command("get", "key", "--cert", ca, env={})
    assert code == ExitCode.USAGE
    assert "cert_file is given without key_file" in text

"""The HTTP port of whole nodes: what they publish, while they serve, wait, stall or stand by."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from fake_node import PATIENCE_S, get, put
from prometheus_client.parser import text_string_to_metric_families

from jepsen_lite.ports import free_ports
from raftkv.config import Settings
from raftkv.errors import DamagedData
from raftkv.metrics import table
from raftkv.metrics.table import METRICS
from raftkv.raft.entry import Address
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, kv_pb2
from raftkv.server.process import NodeProcess
from tests.tls.authority import Authority, Issued

OF_PEERS = {table.PEER_REACHABLE, table.PEER_CONTACT_AGE, table.PEER_LAG}
OF_PIPELINES = {table.OPERATIONS}


class Answer(NamedTuple):
    status: int
    text: str


def exchange(settings: Settings, path: str, context: ssl.SSLContext | None = None) -> Answer:
    port = int(settings.http_listen.rpartition(":")[2])
    if context is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    else:
        connection = HTTPSConnection("127.0.0.1", port, timeout=PATIENCE_S, context=context)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return Answer(reply.status, reply.read().decode())
    finally:
        connection.close()


async def ask(settings: Settings, path: str, context: ssl.SSLContext | None = None) -> Answer:
    return await asyncio.to_thread(exchange, settings, path, context)


async def answers(settings: Settings, path: str, status: int, part: str = "") -> str:
    """Wait until the port answers so; returns the text."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(ConnectionError):  # the port is not open yet, or opened anew
                answer = await ask(settings, path)
                if answer.status == status and part in answer.text:
                    return answer.text
            await asyncio.sleep(0.02)


def settings_of(data_dir: Path, **changes: Any) -> Settings:
    client, peer, http = (f"127.0.0.1:{port}" for port in free_ports(3))
    chosen: dict[str, Any] = {
        "client_listen": client,
        "peer_listen": peer,
        "http_listen": http,
        "tick_ms": 10,
        "disk_reserve_bytes": 0,
    }
    return Settings(data_dir=data_dir, **(chosen | changes))


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[NodeProcess]:
    process = NodeProcess(settings)
    await process.start()
    try:
        yield process
    finally:
        await process.stop()


async def write_and_read(settings: Settings) -> None:
    async with grpc.aio.insecure_channel(settings.client_listen) as channel:
        kv = api_pb2_grpc.KVStub(channel)  # type: ignore[no-untyped-call]
        await kv.Execute(api_pb2.ExecuteRequest(command=put("a", b"1")), timeout=PATIENCE_S)
        await kv.Range(api_pb2.RangeRequest(range=get("a")), timeout=PATIENCE_S)
        with pytest.raises(grpc.aio.AioRpcError):
            await kv.Range(
                api_pb2.RangeRequest(range=kv_pb2.Range(key=b"a", revision=99)), timeout=PATIENCE_S
            )


def values_of(text: str) -> dict[str, float]:
    """The samples by their name and labels."""
    return {
        f"{each.name}{list(each.labels.values()) or ''}": each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


async def test_a_node_that_serves_is_ready_and_has_every_metric(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "node")
    async with running(settings):
        await answers(settings, "/readyz?verbose", 200, "[+] leader")
        await write_and_read(settings)
        text = await answers(settings, "/metrics", 200, 'outcome="REVISION_IN_FUTURE"')
        version = json.loads((await ask(settings, "/version")).text)

    values = values_of(text)
    assert values["raftkv_raft_is_leader"] == values["raftkv_raft_has_leader"] == 1
    assert values["raftkv_raft_proposals_total['applied']"] == 1
    assert values["raftkv_requests_total['KV/Execute', 'OK']"] == 1
    assert values["raftkv_requests_total['KV/Range', 'REVISION_IN_FUTURE']"] == 1
    assert values["raftkv_request_seconds_count['KV/Range']"] == 2
    assert values["raftkv_raft_applied_index"] == values["raftkv_raft_commit_index"]
    assert values["raftkv_log_sync_seconds_count"] >= 1
    assert 0 < values["raftkv_log_sync_seconds_sum"] <= values["raftkv_log_write_seconds_sum"]
    assert values["raftkv_apply_seconds_sum"] > 0
    assert values["raftkv_disk_free_bytes"] > 0
    assert values["raftkv_state_disk_bytes"] > 0
    missing = {metric for metric in METRICS if f"# HELP {metric.name}" not in text}
    assert missing == OF_PEERS | OF_PIPELINES | {table.CERTIFICATE_EXPIRY}
    assert version.keys() == {"version", "python", "cluster_version"}


async def test_it_answers_while_the_event_loop_stands_still(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "node")
    async with running(settings):
        await answers(settings, "/readyz", 200)
        for path in ("/metrics", "/livez", "/readyz"):
            # Here, on the event loop of the node: it does nothing until the answer is there.
            assert exchange(settings, path).status == 200


async def test_a_founder_that_waits_is_alive_and_says_why_it_is_not_ready(tmp_path: Path) -> None:
    members = {id: Address(*(f"127.0.0.1:{port}" for port in free_ports(2))) for id in (1, 2, 3)}
    http = f"127.0.0.1:{free_ports(1)[0]}"
    settings = Settings(
        data_dir=tmp_path / "node",
        initial_members=members,
        http_listen=http,
        tick_ms=10,
        disk_reserve_bytes=0,
    )
    process = NodeProcess(settings)
    starting = asyncio.create_task(process.start())
    try:
        await answers(settings, "/livez", 200)
        await answers(
            settings, "/readyz?local", 503, "[-] in_service: it waits until all first nodes"
        )
        await answers(settings, "/metrics", 200, "raftkv_in_service 0.0")
    finally:
        starting.cancel()
        await asyncio.wait({starting})


async def test_a_node_out_of_service_is_alive_and_says_why_it_is_not_ready(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "node")
    async with running(settings) as process:
        await answers(settings, "/readyz", 200)
        process._on_broken(DamagedData("a table is damaged"))
        await answers(settings, "/readyz?local", 503, "it is out of service")
        await answers(settings, "/livez", 200)


async def test_off_loopback_it_speaks_tls_and_refuses_denied_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "certificates")
    own, good, bad = authority.node(1), authority.user("prometheus"), authority.user("eve")
    denied = tmp_path / "denied"
    denied.write_text(f"{bad.serial:x}\n")
    client, peer, http = free_ports(3)
    settings = settings_of(
        tmp_path / "node",
        client_listen=f"127.0.0.1:{client}",
        peer_listen=f"127.0.0.1:{peer}",
        http_listen=f"0.0.0.0:{http}",
        client_cert_file=str(own.cert_file),
        client_key_file=str(own.key_file),
        client_ca_file=str(authority.ca_file),
        client_certificates="required",
        certificate_deny_file=str(denied),
    )

    def context_of(issued: Issued | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(authority.ca_file))
        if issued is not None:
            context.load_cert_chain(issued.cert_file, issued.key_file)
        return context

    async with running(settings):
        answer = await ask(settings, "/metrics", context_of(good))
        assert answer.status == 200
        assert 'setting="client_cert_file"' in answer.text
        for context in (None, context_of(None), context_of(bad)):
            with pytest.raises((OSError, ssl.SSLError)):
                await ask(settings, "/livez", context)

"""Proxies that cut what they should, and one short run on real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from jepsen_lite.db.network import ProxyNetwork
from jepsen_lite.db.proxy import Proxy, owner_of
from jepsen_lite.ports import free_ports

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parent.parent.parent
LOOPBACK = "127.0.0.1"


@asynccontextmanager
async def echoing(
    network: ProxyNetwork, *, both_ways: bool = False
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection of "a" to a server "b" that sends everything back."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(100):
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()

    port, proxy_port = free_ports(2)
    server = await asyncio.start_server(echo, LOOPBACK, port)
    target = (LOOPBACK, port)
    proxy = Proxy("b", proxy_port, target, network, lambda _: "a", both_ways=both_ways)
    await proxy.start()
    reader, writer = await asyncio.open_connection(LOOPBACK, proxy_port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await proxy.stop()
        server.close()


async def comes_back(reader: asyncio.StreamReader, text: bytes, timeout_s: float = 5.0) -> bool:
    try:
        return await asyncio.wait_for(reader.readexactly(len(text)), timeout_s) == text
    except TimeoutError:
        return False


async def held(network: ProxyNetwork) -> None:
    """Wait until the cut has kept something from its way."""
    async with asyncio.timeout(5.0):
        while not network.held:  # noqa: ASYNC110 - it is a count, not an event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("pair", [("a", "b"), ("b", "a")])
async def test_a_cut_holds_bytes_back_and_mending_lets_them_go(pair: tuple[str, str]) -> None:
    network = ProxyNetwork()
    async with echoing(network) as (reader, writer):
        writer.write(b"before")
        assert await comes_back(reader, b"before")
        network.cut([pair])
        writer.write(b"during")
        await held(network)
        assert not await comes_back(reader, b"during", 0.05)
        network.mend([pair])
        assert await comes_back(reader, b"during")


async def test_a_direction_that_was_cut_twice_is_open_when_both_cuts_are_healed() -> None:
    network = ProxyNetwork()
    pair = ("a", "b")
    async with echoing(network) as (reader, writer):
        network.cut([pair])
        network.cut([pair])
        writer.write(b"x")
        await held(network)
        network.mend([pair])
        assert not await comes_back(reader, b"x", 0.05)
        network.mend([pair])
        assert await comes_back(reader, b"x")


async def test_a_one_way_stream_is_affected_only_by_cuts_of_its_direction() -> None:
    network = ProxyNetwork()
    async with echoing(network, both_ways=True) as (reader, writer):
        network.cut([("b", "a")])
        writer.write(b"not theirs")
        assert await comes_back(reader, b"not theirs")
        network.cut([("a", "b")])
        writer.write(b"ours")
        await held(network)
        assert not await comes_back(reader, b"ours", 0.05)


async def test_a_delayed_stream_arrives_later_and_in_order() -> None:
    network = ProxyNetwork()
    loop = asyncio.get_running_loop()
    async with echoing(network) as (reader, writer):
        network.slow([("a", "b")], 0.2)
        began = loop.time()
        for part in (b"1", b"2", b"3"):
            writer.write(part)
            await writer.drain()
        assert await comes_back(reader, b"123")
        assert loop.time() - began >= 0.2
        assert network.delayed


async def test_a_reset_breaks_connections_in_both_directions() -> None:
    network = ProxyNetwork()
    async with echoing(network) as (reader, writer):
        writer.write(b"x")
        assert await comes_back(reader, b"x")
        assert network.reset([("c", "a")]) == 0
        assert network.reset([("b", "a")]) == 1
        with pytest.raises(ConnectionResetError):
            await reader.read(1)


async def test_the_dialler_is_read_from_the_kernel() -> None:
    async with echoing(ProxyNetwork()) as (_, writer):
        port = writer.get_extra_info("sockname")[1]
        assert owner_of(port, {"other": 1, "us": os.getpid()}) == "us"
        assert owner_of(port, {"other": 1}) == ""


def started(store: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "jepsen_lite", "run", "--store", str(store), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "jepsen-lite"), str(ROOT)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


async def begun(run: subprocess.Popen[str], store: Path) -> None:
    """Wait until it has begun to ask."""
    history = store / "latest" / "history.jsonl"
    async with asyncio.timeout(60.0):
        while not (history.exists() and history.stat().st_size):
            assert run.poll() is None
            await asyncio.sleep(0.1)


def nodes_of(store: Path) -> dict[str, int]:
    """The processes that run for a run in this store."""
    found = {}
    for process in Path("/proc").iterdir():
        try:
            words = (process / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if "serve" in words and str(store) in " ".join(words):
            found[f"node-{words[words.index('--node-id') + 1]}"] = int(process.name)
    return found


def test_a_short_run_on_real_processes_is_valid_and_leaves_everything(tmp_path: Path) -> None:
    command = ["--workload", "register,append,lock", "--nemesis", "kill,partition"]
    command += ["--seconds", "4", "--rate", "30", "--seed", "11"]
    with started(tmp_path, *command) as run:
        output, _ = run.communicate()
    latest = tmp_path / "latest"
    assert run.returncode == 0, output
    test = json.loads((latest / "test.json").read_text())
    assert test["nodes"] == ["node-1", "node-2", "node-3"]
    assert test["seed"] == 11
    assert "--seed 11" in " ".join(test["command"])
    faults = [json.loads(line) for line in (latest / "faults.jsonl").read_text().splitlines()]
    assert any(fault["took_effect"] for fault in faults)
    results = json.loads((latest / "results.json").read_text())
    assert results["validity"] == "valid"
    for name in ("history.jsonl", "report.html", "junit.xml", "nodes/node-1.log"):
        assert (latest / name).stat().st_size > 0


@pytest.mark.slow
async def test_a_node_that_is_killed_from_outside_makes_the_run_invalid(tmp_path: Path) -> None:
    command = ["--workload", "register", "--nemesis", "partition", "--seconds", "5"]
    with started(tmp_path, *command, "--rate", "60", "--seed", "1") as run:
        await begun(run, tmp_path)
        os.kill(nodes_of(tmp_path)["node-2"], signal.SIGKILL)
        output, _ = await asyncio.to_thread(run.communicate)
    assert run.returncode == 1, output
    assert "node-2 ended by itself with signal 9" in " ".join(output.split())


@pytest.mark.slow
async def test_a_run_whose_terminal_is_gone_ends_its_nodes_and_is_judged(tmp_path: Path) -> None:
    command = ["--workload", "register", "--nemesis", "partition", "--seconds", "60"]
    with started(tmp_path, *command) as run:
        await begun(run, tmp_path)
        assert len(nodes_of(tmp_path)) == 3
        run.send_signal(signal.SIGHUP)
        output, _ = await asyncio.to_thread(run.communicate)
    assert run.returncode == 2, output
    assert "the run was interrupted" in output
    assert (tmp_path / "latest" / "report.html").exists()
    assert nodes_of(tmp_path) == {}

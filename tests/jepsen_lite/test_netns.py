"""Network namespaces: cuts by nftables, and their removal however a run ends."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from jepsen_lite.db import namespaces
from jepsen_lite.db.namespaces import Namespaces
from jepsen_lite.db.network import CLIENTS

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parent.parent.parent
CLONE_NEWNET = 0x40000000
SOON_S, NOT_S = 5.0, 0.15


def why_not() -> str:
    """Why there can be no namespaces here; "" if there can."""
    if lacks := namespaces.missing():
        return lacks
    tried = f"jepsen-lite-test-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", tried], capture_output=True, text=True)
    if made.returncode:
        return f"this machine makes no namespaces: {made.stderr.strip()}"
    rules = ["ip", "netns", "exec", tried, "nft", "-f", "-"]
    ruled = subprocess.run(rules, input=namespaces.RULES, capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", tried], check=True)
    return f"nft refuses the rules: {ruled.stderr.strip()}" if ruled.returncode else ""


@pytest.fixture(scope="module")
def possible() -> None:
    if reason := why_not():
        pytest.skip(reason)


@pytest.fixture
def network(possible: None) -> Iterator[Namespaces]:
    network = Namespaces()
    try:
        network.create()
        for name in ("a", "b"):
            network.add(name)
        yield network
    finally:
        network.destroy()


def in_namespace(name: str, make: Callable[[], socket.socket]) -> socket.socket:
    """A socket of another namespace; a socket stays where it was made."""
    made: list[socket.socket] = []

    def go_and_make() -> None:
        with open(namespaces.NAMESPACES / name, "rb") as place:
            assert ctypes.CDLL(None, use_errno=True).setns(place.fileno(), CLONE_NEWNET) == 0
        made.append(make())

    thread = threading.Thread(target=go_and_make)
    thread.start()
    thread.join()
    (found,) = made
    return found


class Speakers:
    """One socket at each address of the network, which sends to the others and receives."""

    def __init__(self, network: Namespaces) -> None:
        self._addresses = {name: network.address(name) for name in ("a", "b", CLIENTS)}
        self._addresses["a's back door"] = network.direct_address("a")
        self._sockets: dict[str, socket.socket] = {}
        for name, address in self._addresses.items():

            def bound(address: str = address) -> socket.socket:
                made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                made.bind((address, 9999))
                return made

            node = name[0]
            where = network.inside(node)[3]
            self._sockets[name] = bound() if name == CLIENTS else in_namespace(where, bound)

    def delivers(self, one: str, other: str, within_s: float = NOT_S) -> bool:
        """Whether a datagram of `one` arrives at `other`."""
        datagram = os.urandom(8)
        self._sockets[one].sendto(datagram, (self._addresses[other], 9999))
        listener = self._sockets[other]
        until_s = time.monotonic() + within_s
        while (left_s := until_s - time.monotonic()) > 0:
            listener.settimeout(left_s)
            try:
                if listener.recv(100) == datagram:
                    return True
            except TimeoutError:
                break
        return False

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()


@pytest.fixture
def speakers(network: Namespaces) -> Iterator[Speakers]:
    speakers = Speakers(network)
    for one, other in (("a", "b"), ("b", "a"), (CLIENTS, "a"), (CLIENTS, "a's back door")):
        assert speakers.delivers(one, other, SOON_S)
    yield speakers
    speakers.close()


def test_a_cut_of_one_way_drops_that_way_only_and_is_counted(
    network: Namespaces, speakers: Speakers
) -> None:
    assert asyncio.run(network.held()) == 0
    asyncio.run(network.cut([("a", "b")]))
    assert not speakers.delivers("a", "b")
    assert asyncio.run(network.held()) == 1
    assert speakers.delivers("b", "a", SOON_S)
    assert speakers.delivers("a", CLIENTS, SOON_S)
    asyncio.run(network.mend([("a", "b")]))
    assert speakers.delivers("a", "b", SOON_S)
    assert asyncio.run(network.held()) == 1


def test_an_isolated_node_receives_nothing_but_is_reached_by_its_direct_address(
    network: Namespaces, speakers: Speakers
) -> None:
    others = ("b", CLIENTS)
    asyncio.run(network.cut([("a", other) for other in others]))
    asyncio.run(network.cut([(other, "a") for other in others]))
    for other in others:
        assert not speakers.delivers("a", other)
        assert not speakers.delivers(other, "a")
    assert speakers.delivers(CLIENTS, "b", SOON_S)
    assert speakers.delivers(CLIENTS, "a's back door", SOON_S)
    assert asyncio.run(network.held()) == 4


def test_a_direction_that_was_cut_twice_is_open_when_both_cuts_are_healed(
    network: Namespaces, speakers: Speakers
) -> None:
    for _ in range(2):
        asyncio.run(network.cut([("a", "b")]))
    asyncio.run(network.mend([("a", "b")]))
    assert not speakers.delivers("a", "b")
    asyncio.run(network.mend([("a", "b")]))
    assert speakers.delivers("a", "b", SOON_S)


# ---- what is left -------------------------------------------------------------------------

KILLED = """
import subprocess, sys
from jepsen_lite.db.namespaces import Namespaces
network = Namespaces()
network.create()
network.add("a")
server = subprocess.Popen([*network.inside("a"), "sleep", "100"], start_new_session=True)
print(network.inside("a")[3], network.address("a").split(".")[2], server.pid, flush=True)
sys.stdin.read()
"""


def environment(**changes: str) -> Mapping[str, str]:
    path = os.pathsep.join([str(ROOT / "jepsen-lite"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, **changes}


def links() -> str:
    return subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("where", ["its own slot", "another slot"])
def test_the_leftovers_of_a_killed_run_are_removed_by_the_next(possible: None, where: str) -> None:
    before = Namespaces() if where == "another slot" else None
    with subprocess.Popen(
        [sys.executable, "-c", KILLED],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        namespace, slot, pid = run.stdout.readline().split()
        other = Namespaces()
        try:
            other.create()
            # Living processes are left alone.
            assert (namespaces.NAMESPACES / namespace).exists()
            assert alive(int(pid))
        finally:
            other.destroy()
            run.kill()
    assert not is_gone(slot)
    network = before or Namespaces()
    try:
        network.create()
        assert not (namespaces.NAMESPACES / namespace).exists()
        until_s = time.monotonic() + SOON_S
        while alive(int(pid)) and time.monotonic() < until_s:
            time.sleep(0.02)
        assert not alive(int(pid))
    finally:
        network.destroy()
    assert is_gone(slot)


def is_gone(slot: str) -> bool:
    left = list(namespaces.NAMESPACES.glob(f"jepsen-lite-{slot}-*"))
    return not left and f"jepsen-lite-{slot}@" not in links()


def started(store: Path, *arguments: str) -> subprocess.Popen[str]:
    command = ["run", "--system", "raftkv-netns", "--store", str(store), *arguments]
    return subprocess.Popen(
        [sys.executable, "-m", "jepsen_lite", *command],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def slot_of(store: Path) -> str:
    """The slot of a run that has begun, from its nodes' addresses."""
    log = (store / "latest" / "nodes" / "node-1.log").read_text()
    return log.partition("198.18.")[2].partition(".")[0]


@pytest.mark.slow
def test_a_short_run_is_valid_and_its_partitions_have_held_packets_back(
    possible: None, tmp_path: Path
) -> None:
    asked = ["--workload", "register,lock", "--nemesis", "partition", "--seconds", "6"]
    with started(tmp_path, *asked, "--rate", "60", "--seed", "5") as run:
        output, _ = run.communicate(timeout=100)
    assert run.returncode == 0, output
    lines = (tmp_path / "latest" / "faults.jsonl").read_text().splitlines()
    effective = [fault for fault in map(json.loads, lines) if fault["took_effect"]]
    assert effective
    assert all("packets" in fault["detail"] for fault in effective)
    assert is_gone(slot_of(tmp_path))


def test_an_interrupted_run_leaves_nothing(possible: None, tmp_path: Path) -> None:
    asked = ["--workload", "register", "--nemesis", "partition", "--seconds", "60"]
    with started(tmp_path, *asked) as run:
        history = tmp_path / "latest" / "history.jsonl"
        until_s = time.monotonic() + 60
        while not (history.exists() and history.stat().st_size):
            assert run.poll() is None
            assert time.monotonic() < until_s
            time.sleep(0.1)
        slot = slot_of(tmp_path)
        assert not is_gone(slot)
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=60)
    assert is_gone(slot)


def test_missing_programs_and_rights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    output = namespaces.missing()
    for lacking in ("apt-get install iproute2", "apt-get install nftables", "only root"):
        assert lacking in output


def test_without_its_programs_a_run_is_refused(tmp_path: Path) -> None:
    command = ["run", "--system", "raftkv-netns", "--workload", "register"]
    refused = subprocess.run(
        [sys.executable, "-m", "jepsen_lite", *command, "--store", str(tmp_path / "store")],
        env=environment(PATH=""),
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 254
    assert "nftables" in refused.stderr
    assert not (tmp_path / "store").exists()

"""The demonstration: three real nodes, their leader killed with SIGKILL, nothing lost.

Every key is written by the real client and counted once its write was acknowledged. At the end
each acknowledged key is read back linearizably. Exits with 1 if one is missing or different.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import monotonic

import raftkv
from jepsen_lite.ports import free_ports
from raftkv.cli.local_cluster import LocalNode, local_cluster, node_environment

WRITERS = 64
CALL_TIMEOUT_S = 20.0
WAIT_S_MAX = 60.0


class DemoFailed(Exception):
    """Something did not happen that should have."""


@dataclass(slots=True)
class Writes:
    """What was acknowledged, and when; `unknown` has the keys whose write had no answer."""

    half_of: int
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    times_s: list[float] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    refused: int = 0
    half_done: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, key: str, value: bytes) -> None:
        self.acknowledged[key] = value
        self.times_s.append(monotonic())
        if 2 * len(self.acknowledged) >= self.half_of:
            self.half_done.set()

    def longest_gap_s(self, since_s: float) -> float:
        """The longest time without any acknowledgement from `since_s` on."""
        times = [since_s, *(time for time in self.times_s if time >= since_s)]
        return max((later - earlier for earlier, later in pairwise(times)), default=0.0)


class Processes:
    """The nodes' processes; ends those it started and no others."""

    def __init__(self, cluster: Sequence[LocalNode], log_directory: Path) -> None:
        self._cluster = {node.node_id: node for node in cluster}
        self._log_directory = log_directory
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, node_id: int) -> None:
        with self.log_file(node_id).open("ab") as log:
            self._running[node_id] = subprocess.Popen(
                self._cluster[node_id].command("--log-format", "json"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=node_environment(),
                start_new_session=True,
            )

    def log_file(self, node_id: int) -> Path:
        return self._log_directory / f"node-{node_id}.log"

    def pid(self, node_id: int) -> int:
        return self._running[node_id].pid

    def kill(self, node_id: int) -> None:
        """SIGKILL: no goodbye, no flush."""
        process = self._running.pop(node_id)
        process.kill()
        process.wait()

    def check_alive(self) -> None:
        for node_id, process in self._running.items():
            if process.poll() is not None:
                last = self.log_file(node_id).read_text(errors="replace").splitlines()[-5:]
                raise DemoFailed(
                    f"node {node_id} ended with code {process.returncode}. It said last:\n  "
                    + "\n  ".join(last)
                )

    def stop(self) -> None:
        """Ask all to stop, and end those that do not."""
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()


def say(text: str = "") -> None:
    print(text, flush=True)


async def wait_for(
    what: str, condition: Callable[[], Awaitable[bool]], processes: Processes
) -> float:
    """Wait until `condition` holds; returns how long that took. Raises DemoFailed."""
    started = monotonic()
    while not await condition():
        processes.check_alive()
        if monotonic() - started > WAIT_S_MAX:
            raise DemoFailed(f"waited {WAIT_S_MAX:.0f} s in vain for {what}")
        await asyncio.sleep(0.05)
    return monotonic() - started


async def answering(client: raftkv.Client) -> list[raftkv.NodeStatus]:
    answers = await client.status_all(timeout=1.0)
    return [answer for answer in answers.values() if isinstance(answer, raftkv.NodeStatus)]


async def leader_of(client: raftkv.Client) -> raftkv.NodeStatus | None:
    """The leader of the highest term, if one answers."""
    leaders = [node for node in await answering(client) if node.role is raftkv.Role.LEADER]
    return max(leaders, key=lambda node: node.term, default=None)


async def write(client: raftkv.Client, keys: Sequence[str], writes: Writes) -> None:
    """Write the keys with many tasks at once."""
    waiting = iter(keys)

    async def work() -> None:
        for key in waiting:
            value = f"value of {key} ".encode() + os.urandom(8).hex().encode()
            while True:
                try:
                    await client.put(key, value, timeout=CALL_TIMEOUT_S)
                except raftkv.OutcomeUnknown:
                    writes.unknown.add(key)
                    break
                except raftkv.Unavailable:
                    writes.refused += 1
                    continue  # nothing happened, so trying again is safe
                writes.note(key, value)
                break

    await asyncio.gather(*(work() for _ in range(WRITERS)))


async def read_back(client: raftkv.Client, writes: Writes) -> list[str]:
    """Read every acknowledged key linearizably; returns the keys that are not as written."""
    lost: list[str] = []
    waiting = iter(writes.acknowledged.items())

    async def work() -> None:
        for key, value in waiting:
            found = await client.get(key, timeout=CALL_TIMEOUT_S)
            if found is None or found.value != value:
                lost.append(key)

    await asyncio.gather(*(work() for _ in range(WRITERS)))
    return lost


class Demo:
    """The story, step by step."""

    def __init__(self, cluster: Sequence[LocalNode], processes: Processes, keys: int) -> None:
        self._cluster = cluster
        self._processes = processes
        self._keys = [f"demo/{number:06d}" for number in range(keys)]
        self.endpoints = ",".join(node.client_address for node in cluster)

    async def run(self) -> tuple[Writes, list[str], float]:
        """What was written, what of it is lost, and the failover in seconds."""
        say(f"1. Starting {len(self._cluster)} nodes, each a process with a disk of its own")
        for node in self._cluster:
            self._processes.start(node.node_id)
            pid = self._processes.pid(node.node_id)
            say(f"     node {node.node_id}: clients at {node.client_address}, process {pid}")
        async with await self._connect() as client:
            await self._elect(client)
            writes, failover_s, killed = await self._load(client)
            await self._return(client, killed)
            say(f"5. Reading back all {len(writes.acknowledged):,} acknowledged keys, linearizably")
            started = monotonic()
            lost = await read_back(client, writes)
            say(f"     {len(writes.acknowledged):,} read in {monotonic() - started:.1f} s")
        return writes, lost, failover_s

    async def _connect(self) -> raftkv.Client:
        deadline = monotonic() + WAIT_S_MAX
        while True:
            self._processes.check_alive()
            try:
                return await raftkv.connect(self.endpoints, timeout=2.0)
            except raftkv.ConnectionFailed:
                if monotonic() > deadline:
                    raise DemoFailed("no node could be reached") from None

    async def _elect(self, client: raftkv.Client) -> None:
        async def all_follow_one() -> bool:
            nodes = await answering(client)
            leaders = {node.leader_id for node in nodes}
            return len(nodes) == len(self._cluster) and len(leaders) == 1 and 0 not in leaders

        await wait_for("a leader", all_follow_one, self._processes)
        leader = await self._leader(client)
        say(f"     they elected node {leader.node_id} (term {leader.term})")

    async def _leader(self, client: raftkv.Client) -> raftkv.NodeStatus:
        found: list[raftkv.NodeStatus] = []

        async def is_there() -> bool:
            leader = await leader_of(client)
            if leader is not None:
                found.append(leader)
            return leader is not None

        await wait_for("a leader", is_there, self._processes)
        return found[0]

    async def _load(self, client: raftkv.Client) -> tuple[Writes, float, int]:
        """Write all keys and kill the leader in the middle of it."""
        say(f"2. Writing {len(self._keys):,} keys with {WRITERS} writers")
        leader = await self._leader(client)
        writes = Writes(len(self._keys))
        started = monotonic()
        writing = asyncio.create_task(write(client, self._keys, writes))
        half = asyncio.create_task(writes.half_done.wait())
        await asyncio.wait((writing, half), return_when=asyncio.FIRST_COMPLETED)
        half.cancel()
        before = len(writes.acknowledged)
        self._processes.kill(leader.node_id)
        killed_s = monotonic()
        say(
            f"3. After {before:,} acknowledged writes: SIGKILL to the leader,"
            f" node {leader.node_id}; the writers go on"
        )
        await writing
        took_s = monotonic() - started
        failover_s = writes.longest_gap_s(killed_s)
        new = await self._leader(client)
        say(
            f"     node {new.node_id} leads now (term {new.term});"
            f" the longest silence was {failover_s:.2f} s"
        )
        say(
            f"     {len(writes.acknowledged):,} acknowledged in {took_s:.1f} s"
            f" ({len(writes.acknowledged) / took_s:,.0f}/s with the outage),"
            f" {len(writes.unknown)} of unknown outcome, {writes.refused} refused and repeated"
        )
        return writes, failover_s, leader.node_id

    async def _return(self, client: raftkv.Client, killed: int) -> None:
        say(f"4. Starting node {killed} again, from what its disk holds")
        target = (await self._leader(client)).commit_index
        address = self._cluster[killed - 1].client_address
        self._processes.start(killed)
        seen: list[raftkv.NodeStatus] = []

        async def caught_up() -> bool:
            try:
                status = await client.status(address, timeout=1.0)
            except raftkv.Unavailable:
                return False
            if not seen:
                say(f"     it is back with its log up to entry {status.last_log_index:,}")
            seen.append(status)
            return status.applied_index >= target

        took_s = await wait_for(f"node {killed} to catch up", caught_up, self._processes)
        say(
            f"     it has caught up to entry {seen[-1].applied_index:,}"
            f" (the cluster had {target:,}), {took_s:.1f} s after its start"
        )


def verdict(writes: Writes, lost: Sequence[str], failover_s: float) -> int:
    """Print the last line; returns the exit code."""
    if lost:
        say(f"     lost or changed: {', '.join(sorted(lost)[:10])} ...")
    word = "FAILED" if lost else "OK"
    say(
        f"demo: {word}, {len(writes.acknowledged)} acknowledged, {len(lost)} lost,"
        f" failover {failover_s:.2f} s"
    )
    return 1 if lost else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=10_000, help="how many to write (10,000)")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    arguments = parser.parse_args()
    if arguments.keys < 2:
        parser.error("--keys needs at least 2")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = Path(tempfile.mkdtemp(prefix="raftkv-demo-"))
    ports = free_ports(6)
    cluster = local_cluster(ports[:3], ports[3:], directory, "demo")
    processes = Processes(cluster, directory)
    demo = Demo(cluster, processes, arguments.keys)
    code = 1
    kept = False
    try:
        writes, lost, failover_s = asyncio.run(demo.run())
        kept = arguments.keep
        if kept:
            explain(demo, cluster, processes, directory)
        code = verdict(writes, lost, failover_s)
    except (DemoFailed, raftkv.RaftkvError) as error:
        say(f"demo: FAILED, {error}")
    except KeyboardInterrupt:
        say("demo: interrupted")
        code = 130
    finally:
        if not kept:
            processes.stop()
    if code == 0 and not kept:
        shutil.rmtree(directory)
    elif code:
        say(f"The nodes' data and logs are in {directory}")
    return code


def explain(
    demo: Demo, cluster: Sequence[LocalNode], processes: Processes, directory: Path
) -> None:
    """How to talk to the cluster that stays, and how to end it."""
    beside = Path(sys.executable).parent / "raftkv"
    command = str(beside) if beside.exists() else f"{sys.executable} -m raftkv"
    pids = " ".join(str(processes.pid(node.node_id)) for node in cluster)
    say("The cluster is still running. Talk to it:")
    say(f"  export RAFTKV_ENDPOINTS={demo.endpoints}")
    for example in ("status", "get demo/000042", "put hello world"):
        say(f"  {command} {example}")
    say(f"Stop it:  kill {pids}    Its data and logs: {directory}")


if __name__ == "__main__":
    sys.exit(main())

"""A cluster under attack, a client that must be served meanwhile, and the problems found."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import raftkv
from raftkv.server.traffic import HALF_SENT_BYTES_MAX, UNFETCHED_BYTES_MAX
from tests.cluster.cluster import Cluster, NodeProcess
from tests.fuzz.attackers import Account, Target, read_account, start

SIZE = 3
# Attackers and nodes share the cores: a node that waits for one must not pass for one that stalls.
SETTINGS = "--set election_ticks_min=60 --set election_ticks_max=80"
RSS_GROWTH_BYTES_MAX = 3 * (UNFETCHED_BYTES_MAX + HALF_SENT_BYTES_MAX)
"""A reply is in memory twice while it is sent, and what arrives between two samples of the partial
requests comes on top.
"""
SERVED_WITHIN_S = 5.0
LOG_BYTES_PER_S_MAX = 100_000
STOPPED_WITHIN_S = 20.0
WARM_UP_KEYS = 500
LARGE_KEYS, LARGE_BYTES = 38, 100_000
"""Almost as much as one answer may hold."""
MONITOR_S = 0.1
PROBE_S = 0.02
PAGE_BYTES = 4096


@dataclass
class Outcome:
    """What a campaign found."""

    seed: int
    planned_s: float
    lasted_s: float = 0.0
    account: Account = field(default_factory=Account)
    faults: list[str] = field(default_factory=list)
    served_ms: list[float] = field(default_factory=list)
    rss_idle: dict[int, int] = field(default_factory=dict)
    rss_max: dict[int, int] = field(default_factory=dict)
    descriptors_max: int = 0

    def fault(self, words: str) -> None:
        if words not in self.faults:
            self.faults.append(words)

    def __str__(self) -> str:
        served = sorted(self.served_ms) or [0.0]
        growth = {n: (self.rss_max[n] - idle) >> 20 for n, idle in self.rss_idle.items()}
        lines = [
            f"seed {self.seed}: {self.account.done} attacks in {self.lasted_s:.0f} s",
            f"  kinds: {self.account.by_kind}",
            f"  another client: {len(served)} served, p50 {statistics.median(served):.0f} ms,"
            f" p99 {served[int(len(served) * 0.99)]:.0f} ms, longest {served[-1]:.0f} ms",
            f"  RSS above idle, MiB: {growth}; descriptors of a node: <= {self.descriptors_max}",
        ]
        faults = [*self.faults, *self.account.faults]
        if faults:
            lines += ["  FAULTS:", *(f"    {fault}" for fault in faults[:20])]
            lines += ["  last attacks:", *(f"    {each}" for each in self.account.recent)]
            lines += [
                f"  again: scripts/soak fuzz --seconds {self.planned_s:.0f} --seed {self.seed}"
            ]
        return "\n".join(lines)

    @property
    def clean(self) -> bool:
        return not self.faults and not self.account.faults


class Campaign:
    """One seed against one cluster of real nodes. Ends early only when a node has ended."""

    def __init__(self, base: Path, seed: int, seconds: float) -> None:
        self._base = base
        self._cluster = Cluster(base, SIZE, settings=SETTINGS)
        self._seconds = seconds
        self._outcome = Outcome(seed, seconds)
        self._served_at = 0.0

    async def run(self) -> Outcome:
        async with self._cluster as cluster:
            await self._warm_up()
            term = (await cluster.status(await cluster.leader())).term
            for node_id, node in cluster.nodes.items():
                self._outcome.rss_idle[node_id] = self._outcome.rss_max[node_id] = rss_of(node)
            await self._under_attack()
            if all(node.running for node in cluster.nodes.values()):
                await self._afterwards(term)
                await self._stop()
        return self._outcome

    async def _warm_up(self) -> None:
        async with self._cluster.client() as client:
            for number in range(WARM_UP_KEYS):
                await client.put(f"warm/{number}", "up")
            for number in range(LARGE_KEYS):
                await client.put(f"large/{number}", bytes(LARGE_BYTES))
        await self._cluster.ready()

    async def _under_attack(self) -> None:
        outcome, account = self._outcome, self._base / "attackers.json"
        targets = [
            Target(node.client_address, node.peer_address) for node in self._cluster.nodes.values()
        ]
        attackers = start(outcome.seed, targets, account)
        probe = asyncio.ensure_future(self._probe())
        began = time.monotonic()
        try:
            while time.monotonic() < began + self._seconds and len(self._cluster.pids()) == SIZE:
                await asyncio.sleep(MONITOR_S)
                outcome.account = read_account(account)
                self._watch()
                if not attackers.is_alive():
                    outcome.fault(f"the attackers ended with {attackers.exitcode}")
        finally:
            outcome.lasted_s = time.monotonic() - began
            attackers.kill()
            attackers.join()
            probe.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await probe

    async def _probe(self) -> None:
        """Puts and gets of a client that has nothing to do with it; its failures show as gaps."""
        self._served_at = time.monotonic()
        async with self._cluster.client() as client:
            while True:
                began = time.monotonic()
                with contextlib.suppress(raftkv.RaftkvError):
                    await client.put("probe", "p", timeout=SERVED_WITHIN_S)
                    await client.get("probe", timeout=SERVED_WITHIN_S)
                    self._served_at = time.monotonic()
                    self._outcome.served_ms.append((self._served_at - began) * 1e3)
                await asyncio.sleep(PROBE_S)

    def _watch(self) -> None:
        outcome = self._outcome
        for node_id, node in self._cluster.nodes.items():
            if not node.running:
                outcome.fault(f"node {node_id} has ended: {node.log()[-1500:]}")
                continue
            rss = rss_of(node)
            outcome.rss_max[node_id] = max(outcome.rss_max[node_id], rss)
            if rss > outcome.rss_idle[node_id] + RSS_GROWTH_BYTES_MAX:
                outcome.fault(
                    f"node {node_id} has grown by more than {RSS_GROWTH_BYTES_MAX >> 20} MiB"
                )
            outcome.descriptors_max = max(outcome.descriptors_max, descriptors_of(node))
        if time.monotonic() > self._served_at + SERVED_WITHIN_S:
            outcome.fault(f"another client was not served for {SERVED_WITHIN_S} s")

    async def _afterwards(self, term: int) -> None:
        """Every node serves, the leader is the same, and no log has a trace of what was sent."""
        outcome, cluster = self._outcome, self._cluster
        try:
            await cluster.ready()
        except AssertionError as error:
            outcome.fault(f"afterwards: {error}")
            return
        terms = {node_id: (await cluster.status(node_id)).term for node_id in cluster.nodes}
        if set(terms.values()) != {term}:
            outcome.fault(f"leadership was lost: term {term} became {terms}")
        for node_id, node in cluster.nodes.items():
            log = node.log()
            if '"locals"' in log:
                outcome.fault(f"node {node_id} logs the variables of its functions")
            traces = [line for line in log.splitlines() if '"exception"' in line]
            if traces or "Traceback" in log:
                first = traces[0] if traces else log[log.index("Traceback") :]
                outcome.fault(f"node {node_id} logs {len(traces)} tracebacks: {first[:500]}")
            if len(log) > LOG_BYTES_PER_S_MAX * outcome.lasted_s:
                outcome.fault(f"node {node_id} logged {len(log)} bytes")

    async def _stop(self) -> None:
        """What was left open keeps no node from its end."""
        nodes = self._cluster.nodes
        for node in nodes.values():
            node.send(signal.SIGTERM)

        for node_id, node in nodes.items():
            try:
                code = await asyncio.to_thread(node.wait, STOPPED_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._outcome.fault(f"node {node_id} does not stop")
            else:
                if code:
                    self._outcome.fault(f"node {node_id} stopped with {code}")


def rss_of(node: NodeProcess) -> int:
    """Bytes; of a node that has just ended none."""
    with contextlib.suppress(OSError, IndexError):
        return int(_proc(node, "statm").read_text().split()[1]) * PAGE_BYTES
    return 0


def descriptors_of(node: NodeProcess) -> int:
    with contextlib.suppress(OSError):
        return len(list(_proc(node, "fd").iterdir()))
    return 0


def _proc(node: NodeProcess, name: str) -> Path:
    assert node.process is not None
    return Path(f"/proc/{node.process.pid}/{name}")

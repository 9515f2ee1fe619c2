"""What the benchmark asks of a system under test: three nodes, a client, and a state per node."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from bench_lib.processes import ServerFailed, ServerProcess, cpu_seconds, memory

NODES = 3
READY_DEADLINE_S = 60.0
POLL_S = 0.01
QUIET_PERIOD_S = 0.5
QUIET_CORES = 0.2  # heartbeats and timers of three nodes stay below this


@dataclass(frozen=True, slots=True)
class NodeState:
    """What a node says of itself."""

    leads: bool
    applied_index: int


class Client(Protocol):
    """What a load needs of a client: every call returns when the answer is there, or raises."""

    def put(self, key: bytes, value: bytes) -> Awaitable[object]: ...

    async def put_many(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Load pairs as fast as the system can; for filling, never measured."""

    async def get(self, key: bytes) -> bytes:
        """The value, read linearizably; b"" where there is none."""

    async def stale_get(self, key: bytes) -> bytes:
        """The value as the asked node has it. Of raftkv only."""

    async def lock_and_unlock(self, name: bytes, owner: int) -> None:
        """Wait for the lock and give it back. Owners are told apart within a client."""

    async def close(self) -> None: ...


class Cluster(ABC):
    """Three nodes of one system on this machine, numbered from 0, data below `directory`."""

    system: str
    nodes: list[ServerProcess]
    endpoints: list[str]
    client_environment: Mapping[str, str] = MappingProxyType({})
    """What the load generator's clients take from the environment: certificates and a login."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    async def state(self, node: int) -> NodeState | None:
        """What the node says of itself; None if it doesn't answer."""

    @abstractmethod
    async def serves(self, node: int) -> bool:
        """Whether this node answers a linearizable read."""

    @abstractmethod
    async def close_probes(self) -> None:
        """Drop what `state` and `serves` hold open."""

    async def start(self) -> None:
        """Start every node; returns when all serve."""
        for node in self.nodes:
            node.start()
        for number in range(len(self.nodes)):
            await self.wait_until_serving(number)

    async def stop(self) -> None:
        await self.close_probes()
        for node in self.nodes:
            if node.running:
                await asyncio.to_thread(node.stop)

    async def wait_until_serving(self, node: int) -> None:
        """Returns when the node answers a linearizable read. Raises ServerFailed."""
        await self._wait_until(node, lambda: self.serves(node))

    async def _wait_until(self, node: int, holds: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + READY_DEADLINE_S
        while not await holds():
            self.nodes[node].check_alive()
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.nodes[node].name} isn't ready: {self.nodes[node].log}")
            await asyncio.sleep(POLL_S)

    async def leader(self) -> int:
        """The node that leads, as soon as one does."""
        deadline = time.monotonic() + READY_DEADLINE_S
        while time.monotonic() < deadline:
            for number, node in enumerate(self.nodes):
                state = await self.state(number) if node.running else None
                if state is not None and state.leads:
                    return number
            await asyncio.sleep(POLL_S)
        raise ServerFailed(f"{self.system}: no leader, see {self.directory}")

    async def wait_until_caught_up(self, node: int) -> None:
        """Returns when the node has applied what the leader had applied at the call."""
        leading = await self.state(await self.leader())
        goal = leading.applied_index if leading else 0

        async def caught_up() -> bool:
            state = await self.state(node)
            return state is not None and state.applied_index >= goal

        await self._wait_until(node, caught_up)

    def cpu_seconds(self) -> float:
        """CPU time of all running nodes together."""
        return sum(cpu_seconds(node.pid) for node in self.nodes if node.running)

    def rss_bytes_max(self) -> int:
        """Resident memory of the largest node."""
        return max(memory(node.pid).rss_bytes for node in self.nodes if node.running)

    async def wait_until_quiet(self, patience_s: float, quiet_s: float = 1.0) -> None:
        """Returns when the nodes have done next to nothing for `quiet_s`: no compaction is left.

        Gives up without a word after `patience_s`: what never ends is part of the system's cost.
        """
        deadline = time.monotonic() + patience_s
        quiet_since = time.monotonic()
        before = self.cpu_seconds()
        while time.monotonic() < min(deadline, quiet_since + quiet_s):
            await asyncio.sleep(QUIET_PERIOD_S)
            now = self.cpu_seconds()
            if now - before > QUIET_CORES * QUIET_PERIOD_S:
                quiet_since = time.monotonic()
            before = now

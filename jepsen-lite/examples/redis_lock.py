"""The usual lock on Redis (SET NX PX, compare and delete), tested across failovers.

Needs redis-server on PATH and the package redis. In this directory:

    jepsen-lite run --system redis_lock:REDIS --workload lock --nemesis delay,transfer --rate 20
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redis.asyncio import Connection
from redis.exceptions import BusyLoadingError, RedisError, ResponseError

from jepsen_lite.clients.partial import PartialClient, PartialLocks
from jepsen_lite.clients.polled_lock import PolledLock
from jepsen_lite.clients.protocol import LockClient, OperationError
from jepsen_lite.db.base import NoEffect
from jepsen_lite.db.catalogue import OF_NETWORKS, OF_PROCESSES, DatabaseKind
from jepsen_lite.db.local import LocalCluster, split
from jepsen_lite.history import Kind

# The token counts the acquisitions of a lock, so that a resource could compare two of them.
ACQUIRE = """if redis.call('set', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
then return redis.call('incr', KEYS[1] .. ':token') else return 0 end"""
RELEASE = """if redis.call('get', KEYS[1]) == ARGV[1]
then return redis.call('del', KEYS[1]) else return 0 end"""
ASK_S, LOOK_S, DOWN_S = 1.0, 0.1, 1.0


class RedisClient(PartialClient):
    """Sends to one node until that node fails or is no primary, then to the next one."""

    def __init__(self, addresses: list[str]) -> None:
        ends = [split(address) for address in addresses]
        self._connections: list[Any] = [
            Connection(host=host, port=port, protocol=2) for host, port in ends
        ]
        self._locks = PartialLocks(lambda name, ttl_s: RedisLock(self, name, ttl_s))
        self._current = 0
        self._turn = asyncio.Lock()  # calls of one client may overlap

    @property
    def locks(self) -> LockClient:
        return self._locks

    async def close(self) -> None:
        for connection in self._connections:
            await connection.disconnect()

    async def ask(self, *command: object, timeout_s: float = ASK_S) -> Any:
        """The reply of the present node. Raises `OperationError`."""
        async with self._turn:
            connection, kind = self._connections[self._current], Kind.FAIL
            try:
                async with asyncio.timeout(timeout_s):
                    await connection.connect()
                    kind = Kind.INFO  # from here on the command may arrive
                    await connection.send_command(*command)
                    return await connection.read_response()
            except (ResponseError, BusyLoadingError) as error:
                self._next()
                reason = str(error).split()[0]
                raise OperationError(str(error), reason=reason, refused=True) from error
            # uvloop's error for a connection that the other side has closed is a RuntimeError.
            except (RedisError, OSError, RuntimeError) as error:
                self._next()
                await connection.disconnect(nowait=True)
                reason = type(error).__name__
                raise OperationError(str(error), reason=reason, kind=kind) from error

    def _next(self) -> None:
        self._current = (self._current + 1) % len(self._connections)


class RedisLock(PolledLock):
    """SET NX PX under a value of the holder; released by comparing that value."""

    def __init__(self, client: RedisClient, name: str, ttl_s: float) -> None:
        super().__init__(name, ttl_s)
        self._client = client

    async def take(self, value: str) -> int:
        ttl_ms = round(self.ttl_s * 1000)
        return int(await self._client.ask("EVAL", ACQUIRE, 1, self.name, value, ttl_ms))

    async def give_back(self, value: str) -> bool:
        return bool(await self._client.ask("EVAL", RELEASE, 1, self.name, value))


class RedisReplicas(LocalCluster):
    """A primary with asynchronous replicas. The harness fails over, as Redis Sentinel does."""

    name = "redis"
    one_port = True

    def __init__(self, directory: Path, logs: Path, size: int) -> None:
        super().__init__(directory, logs)
        self.primary = "node-1"
        self._watching: asyncio.Task[None] | None = None
        self._stopping = False
        names = [f"node-{number}" for number in range(1, size + 1)]
        self.addresses = {name: self.new_addresses(name) for name in names}
        for name in names:
            (self.directory / name).mkdir(parents=True)
            self.add_server(name, self._command(name))

    def _command(self, name: str) -> list[str]:
        host, port = split(self.addresses[name].client_listen)
        command = ["redis-server", "--bind", host, "--port", str(port)]
        command += ["--dir", str(self.directory / name), "--appendonly", "yes"]
        command += ["--repl-diskless-sync-delay", "0", "--repl-timeout", "5"]
        return command if name == self.primary else [*command, "--replicaof", *self._of(name)]

    def _of(self, name: str) -> list[str]:
        """Where the replica `name` finds the primary: through the proxy of the primary."""
        return (
            ["NO", "ONE"] if name == self.primary else self.addresses[self.primary].peer.split(":")
        )

    async def start(self) -> None:
        await super().start()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        self._stopping = True
        if self._watching is not None:
            await asyncio.wait([self._watching])
        await super().stop()

    async def connect(self, node: str = "") -> RedisClient:
        return RedisClient([self.endpoint(name) for name in ([node] if node else self.nodes)])

    async def _ask(self, name: str, *command: object) -> Any:
        client = RedisClient([self.direct_address(name)])
        try:
            return await client.ask(*command)
        finally:
            await client.close()

    async def _roles(self) -> dict[str, list[Any]]:
        """What each node that answers says of itself: ["master", ...] or ["slave", ...]."""
        found = {}
        for name in self.nodes:
            with contextlib.suppress(OperationError):
                role = await self._ask(name, "ROLE")
                found[name] = [each.decode() if isinstance(each, bytes) else each for each in role]
        return found

    async def leader(self) -> str:
        return self.primary if self.primary in await self._roles() else ""

    async def not_ready(self) -> Mapping[str, str]:
        roles = await self._roles()
        missing = {name: "does not answer" for name in self.nodes if name not in roles}
        waiting = {n: role[3] for n, role in roles.items() if role[0] == "slave"}
        return missing | {n: state for n, state in waiting.items() if state != "connected"}

    def versions(self) -> Mapping[str, str]:
        done = subprocess.run(["redis-server", "--version"], capture_output=True, text=True)
        found = re.search(r"v=(\S+)", done.stdout)
        return {"redis": found[1] if found else "unknown"}

    async def transfer_leader(self, to: str) -> str:
        """A failover that an operator asks for: nobody waits for the replica to catch up."""
        roles = await self._roles()
        if roles.get(to, ["down"])[0] != "slave":
            raise NoEffect(f"{to} is no replica")
        await self._fail_over(to, "as an operator asked")
        return to

    async def _fail_over(self, to: str, why: str) -> None:
        old, self.primary = self.primary, to
        for name in (to, *(other for other in self.nodes if other != to)):
            self.servers[name].command = self._command(name)
            with contextlib.suppress(OperationError):
                await self._ask(name, "REPLICAOF", *self._of(name))
        self.on_event("failover", to, f"the replica {to} replaced the primary {old}, {why}")

    async def _watch(self) -> None:
        """Replace a primary that is down, and make a former one a replica when it returns."""
        loop = asyncio.get_running_loop()
        seen_s = loop.time()
        while not self._stopping:
            await asyncio.sleep(LOOK_S)
            roles = await self._roles()
            if self.primary in roles:
                seen_s = loop.time()
            elif roles and loop.time() > seen_s + DOWN_S:
                # The one that has received most of the primary's history.
                await self._fail_over(
                    max(roles, key=lambda name: roles[name][-1]), "which was down"
                )
            for name, role in roles.items():
                if (role[0] == "master") != (name == self.primary):
                    with contextlib.suppress(OperationError):
                        await self._ask(name, "REPLICAOF", *self._of(name))


REDIS = DatabaseKind(
    "Redis with asynchronous replicas, and a lock on it",
    lambda options, paths: RedisReplicas(paths.data, paths.logs, options.nodes),
    OF_PROCESSES | OF_NETWORKS | {"transfer"},
    frozenset({"lock"}),
    lambda _: "" if shutil.which("redis-server") else "apt-get install redis-server",
)

"""A template: the parts that jepsen-lite needs to test a store of yours.

Copy it, and change the client to your store's calls and the command to your server's. In this
directory, this finds nothing wrong:

    jepsen-lite run --system own_store:STORE --workload register --nemesis kill --nodes 1

and `--system own_store:FORGETFUL` finds acknowledged writes that a crash has lost.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jepsen_lite.clients.partial import PartialClient, no_history
from jepsen_lite.clients.protocol import Fence, KeyValue, OperationError, Swap
from jepsen_lite.db.catalogue import OF_PROCESSES, DatabaseKind
from jepsen_lite.db.local import LocalCluster, split
from jepsen_lite.history import Kind

SERVER = Path(__file__).with_name("tiny_store.py")


class StoreClient(PartialClient):
    """The calls that the workload `register` uses: get, put and compare_and_swap."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._turn = asyncio.Lock()  # calls of one client may overlap
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _ask(self, *request: object, timeout_s: float) -> Any:
        """Decide here what an error means: FAIL is certainly not applied, INFO may be applied."""
        async with self._turn:
            kind = Kind.FAIL
            try:
                async with asyncio.timeout(timeout_s):
                    if self._streams is None:
                        self._streams = await asyncio.open_connection(*split(self._address))
                    reader, writer = self._streams
                    kind = Kind.INFO
                    writer.write(json.dumps(request).encode() + b"\n")
                    return json.loads(await reader.readuntil(b"\n"))
            except (OSError, EOFError) as error:
                await self.close()
                raise OperationError(str(error), reason=type(error).__name__, kind=kind) from error

    async def get(
        self, key: str, *, timeout_s: float, revision: int = 0, staleness_s_max: float = 0.0
    ) -> KeyValue | None:
        no_history(revision)
        _, value, version = await self._ask("get", key, timeout_s=timeout_s)
        return None if value is None else KeyValue(key, value, mod_revision=version)

    async def put(
        self, key: str, value: str = "", *, timeout_s: float, fence: Fence | None = None
    ) -> int:
        _, _, version = await self._ask("put", key, value, timeout_s=timeout_s)
        return int(version)

    async def compare_and_swap(
        self, key: str, expected: str | None, new: str, *, timeout_s: float
    ) -> Swap:
        done, value, version = await self._ask("cas", key, new, expected, timeout_s=timeout_s)
        return Swap(done, None if value is None else KeyValue(key, value, mod_revision=version))


class StoreCluster(LocalCluster):
    """One server; the harness starts, kills and pauses it, and reaches it through a proxy."""

    name = "own store"

    def __init__(self, directory: Path, logs: Path, size: int, *flags: str) -> None:
        super().__init__(directory, logs)
        for name in (f"node-{number}" for number in range(1, size + 1)):
            self.addresses[name] = self.new_addresses(name)
            port = str(split(self.addresses[name].client_listen)[1])
            command = [sys.executable, str(SERVER), port, str(directory / name), *flags]
            self.add_server(name, command)

    async def connect(self, node: str = "") -> StoreClient:
        return StoreClient(self.endpoint(node or self.nodes[0]))

    async def leader(self) -> str:
        return self.nodes[0]

    async def not_ready(self) -> Mapping[str, str]:
        client = StoreClient(self.direct_address(self.nodes[0]))
        try:
            await client.get("ready?", timeout_s=1.0)
        except OperationError as error:
            return {self.nodes[0]: error.reason}
        finally:
            await client.close()
        return {}


def _kind(summary: str, *flags: str) -> DatabaseKind:
    return DatabaseKind(
        summary,
        lambda options, paths: StoreCluster(paths.data, paths.logs, options.nodes, *flags),
        nemeses=OF_PROCESSES,
        workloads=frozenset({"register"}),
        sizes=(1,),
    )


STORE = _kind("a store in one process")
FORGETFUL = _kind("the same with acknowledgements before the write", "--forgetful")

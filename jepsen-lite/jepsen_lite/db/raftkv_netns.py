"""raftkv as processes of this machine, each in a network namespace of its own.

Partitions are nftables' rules: packets vanish, as they do on a network that is really cut, and TCP
has to find that out. No proxy is between the nodes, or between them and their clients.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from secrets import token_hex

from jepsen_lite.db.base import held_back
from jepsen_lite.db.local import Addresses
from jepsen_lite.db.namespaces import Namespaces
from jepsen_lite.db.network import Pair
from jepsen_lite.db.raftkv import RaftkvCluster

CLIENT_PORT, PEER_PORT = 7411, 7511


class RaftkvNetnsCluster(RaftkvCluster):
    """As `RaftkvCluster`, of which only the network is another."""

    name = "raftkv-netns"

    def __init__(self, directory: Path, logs: Path, size: int) -> None:
        self._namespaces = Namespaces()
        self._secret = directory / "cluster-secret"
        # Its network is this machine's, and nothing leads out of it.
        self.flags = ("--allow-insecure-network", "--cluster-secret-file", str(self._secret))
        super().__init__(directory, logs, size)

    def new_addresses(self, name: str) -> Addresses:
        address = self._namespaces.address(name)
        client, peer = f"{address}:{CLIENT_PORT}", f"{address}:{PEER_PORT}"
        return Addresses(
            client_listen=f"0.0.0.0:{CLIENT_PORT}",
            client=client,
            peer_listen=peer,
            peer=peer,
            direct_address=f"{self._namespaces.direct_address(name)}:{CLIENT_PORT}",
        )

    def runs_by(self, name: str) -> list[str]:
        return self._namespaces.inside(name)

    async def join_network(self, name: str) -> None:
        self._namespaces.add(name)

    async def start(self) -> None:
        self._secret.parent.mkdir(parents=True, exist_ok=True)
        self._secret.touch(mode=0o600)
        self._secret.write_text(token_hex(32))
        self.at_end(self._namespaces.destroy)
        self._namespaces.create()
        await super().start()

    async def cut(self, pairs: Collection[Pair]) -> Callable[[], Awaitable[str]]:
        held = await self._namespaces.held()
        await self._namespaces.cut(pairs)

        async def mend() -> str:
            await self._namespaces.mend(pairs)
            return held_back(await self._namespaces.held() - held, "packets")

        return mend

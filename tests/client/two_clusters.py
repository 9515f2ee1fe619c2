"""Two clusters on the same addresses: the client's, and one that was founded later."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from raftkv.client.client import Client, connect
from raftkv.client.settings import ClientSettings
from raftkv.errors import ConnectionFailed
from tests.recipes.recipe_cluster import RecipeCluster

ADDRESSES = ("a:1", "b:2", "c:3")
SETTINGS = ClientSettings()


class TwoClusters:
    """At each address a node of `own` serves, until one of `other` takes its place."""

    def __init__(self) -> None:
        self.own = RecipeCluster(*ADDRESSES)
        self.other = RecipeCluster(*ADDRESSES)
        self.say(self.other, 7, 71)
        self._serving = dict.fromkeys(ADDRESSES, self.own)

    def say(self, cluster: RecipeCluster, cluster_id: int, incarnation: int) -> None:
        """From now on the nodes of that cluster answer for this one."""
        cluster.cluster_id, cluster.incarnation = cluster_id, incarnation
        for node in cluster.nodes.values():
            node.cluster_id, node.incarnation = cluster_id, incarnation

    async def connect(
        self,
        timeout: float = 5.0,
        settings: ClientSettings = SETTINGS,
        given: Sequence[str] = ADDRESSES,
    ) -> Client:
        rng = random.Random(7)
        return await connect(given, timeout=timeout, settings=settings, links=self.link, rng=rng)

    def link(self, address: str) -> SwitchedLink:
        return SwitchedLink(self, address)

    def serving(self, address: str) -> RecipeCluster:
        return self._serving[address]

    def rebuild(self, *addresses: str) -> None:
        """The nodes there die, and nodes of the other cluster take their places."""
        for address in addresses:
            self.kill(address)
            self._serving[address] = self.other

    def bring_back(self, *addresses: str) -> None:
        """The nodes of the own cluster serve there again."""
        for address in addresses:
            self.other.nodes[address].kill()
            self._serving[address] = self.own
            self.own.nodes[address].up = True

    def kill(self, *addresses: str) -> None:
        """The own nodes there die."""
        for address in addresses:
            self.own.nodes[address].kill()
            for stream in list(self.own.hosts[address].streams):
                stream.break_off()

    def revive(self, *addresses: str) -> None:
        for address in addresses:
            self.own.nodes[address].up = True


class SwitchedLink:
    """A link to the server that has the address now."""

    def __init__(self, clusters: TwoClusters, address: str) -> None:
        self._clusters = clusters
        self._address = address

    def open(self, *arguments: Any, token: str = "") -> Any:
        return self._clusters.serving(self._address).link(self._address).open(*arguments)

    async def call(self, method: str, request: bytes, timeout_s: float, token: str = "") -> bytes:
        cluster = self._clusters.serving(self._address)
        reply = await cluster.link(self._address).call(method, request, timeout_s)
        if cluster is not self._clusters.serving(self._address):
            raise ConnectionFailed("connection reset")
        return reply

    async def close(self) -> None:
        pass

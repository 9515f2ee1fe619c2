"""A raftkv cluster that is already running, of which only the endpoints are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import raftkv
from jepsen_lite.clients.protocol import KvClient
from jepsen_lite.clients.raftkv_client import connect
from jepsen_lite.db.base import DatabaseFailed, do_all
from jepsen_lite.db.network import CLIENTS
from jepsen_lite.db.proxy import Proxy
from jepsen_lite.db.raftkv_operator import ASK_TIMEOUT_S, OPERATE_TIMEOUT_S, RaftkvOperations
from jepsen_lite.ports import free_ports
from raftkv.client.model.status import NodeStatus
from raftkv.client.settings import ClientSettings
from raftkv.errors import RaftkvError

# Keys under these prefixes are left from earlier runs; no operation of this run has written them.
WORKLOAD_PREFIXES = (
    *("append/", "bank/", "bulk/", "counter", "fenced/", "register/", "session/", "set/"),
    *(
        "staleness/",
        "watch/",
        "wide-watch/",
        "transactions/",
        "ranges/",
        "leased-keys/",
        "waiters/",
        "refusals/",
    ),
)


class ExistingCluster(RaftkvOperations):
    """Clients reach its nodes through proxies; nothing else can be broken, or is.

    Keys that begin as those of our workloads do are deleted before the run.
    """

    name = "existing"

    def __init__(self, endpoints: Sequence[str]) -> None:
        super().__init__()
        self._endpoints = list(endpoints)
        self._direct_addresses: dict[str, str] = {}
        self._versions: set[str] = set()
        self._proxy_addresses: dict[str, str] = {}
        self._proxies: list[Proxy] = []

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(self._direct_addresses)

    def direct_address(self, node: str) -> str:
        return self._direct_addresses[node]

    async def start(self) -> None:
        """Find out which node is where. Raises `DatabaseFailed` if one does not answer."""
        settings = ClientSettings(follow_members=False)
        try:
            async with raftkv.connect(self._endpoints, settings=settings) as client:
                for endpoint in self._endpoints:
                    status = await client.status(endpoint, timeout=ASK_TIMEOUT_S)
                    await self._meet(endpoint, status)
                for prefix in WORKLOAD_PREFIXES:
                    await client.delete_prefix(prefix, timeout=OPERATE_TIMEOUT_S)
        except RaftkvError as error:
            raise DatabaseFailed(f"the cluster can't be used: {error}") from error

    async def _meet(self, endpoint: str, status: NodeStatus) -> None:
        name = f"node-{status.node_id}"
        self._versions.add(status.version)
        self._direct_addresses[name] = endpoint
        (port,) = free_ports(1)
        host, _, target = endpoint.rpartition(":")
        address = (host.strip("[]"), int(target))
        proxy = Proxy(name, port, address, self.network, lambda _: CLIENTS, both_ways=False)
        self._proxy_addresses[name] = f"127.0.0.1:{port}"
        self._proxies.append(proxy)
        await proxy.start()

    async def stop(self) -> None:
        await do_all([self.forget_operator, *(proxy.stop for proxy in self._proxies)])

    async def connect(self, node: str = "") -> KvClient:
        # The members' own addresses would lead past the proxies.
        settings = ClientSettings(follow_members=False)
        chosen = [node] if node else self.nodes
        return await connect([self._proxy_addresses[name] for name in chosen], settings=settings)

    def versions(self) -> Mapping[str, str]:
        return {"raftkv": ", ".join(sorted(self._versions)) or raftkv.__version__}

"""The administrator of a run with users: adds them before the clients come, then grants and
withdraws their rights for as long as they work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from jepsen_lite.clients.protocol import KvClient, OperationError
from jepsen_lite.clients.raftkv_client import connect
from jepsen_lite.recorder import Recorder
from jepsen_lite.sim.context import SimulationContext
from jepsen_lite.sim.net.client_links import SimulatedClientNetwork
from jepsen_lite.sim.nodes.cluster import Cluster
from jepsen_lite.sim.process import Process
from jepsen_lite.workloads.rights import END, PREFIX, RightsWorkload, password_of

Attempt: TypeAlias = Callable[..., Awaitable[Any]]
"""Takes `timeout_s`."""

HOST = "administrator"
ROOT = "root"
FIRST_KEY = "\0"
EVERYONE = "everyone"
"""The role of all clients: it gives access to the keys of the other workloads."""
READER = "reader"
ACT_EVERY_S = 0.15
ACT_TIMEOUT_S = 1.0
SETUP_TIMEOUT_S = 4.0
"""Of a step that the run waits for: half of the answers may be delayed by a second each."""
AGAIN_S = 0.1
DONE_BEFORE = frozenset({"USER_EXISTS", "ROLE_EXISTS"})
SWITCHING = 0.6
"""The share of runs in which authentication is disabled and enabled again."""
WORKER = 1_000_000


class Administrator:
    """One process, which logs in as root."""

    def __init__(
        self,
        context: SimulationContext,
        cluster: Cluster,
        workload: RightsWorkload,
        users: Sequence[str],
        recorder: Recorder,
    ) -> None:
        world = context.world
        self._world = world
        self._cluster = cluster
        self._workload = workload
        self._users = users
        self._recorder = recorder
        self._rng = world.rng(HOST)
        self._switches = self._rng.random() < SWITCHING
        self._process = Process(  # type: ignore[abstract]  # only what is used
            world, HOST, on_exception=context.on_failure
        )
        self._links = SimulatedClientNetwork(world, context.network, cluster, self._process, HOST)
        self._enabled = self._stopping = self._over = False

    def start(self) -> None:
        """Add the users and enable authentication."""
        self._process.enter(lambda: self._process.create_task(self._live()))

    def ready(self) -> bool:
        """Whether clients can log in."""
        return self._enabled

    def stop(self) -> None:
        """Grant and withdraw nothing more, and let every client read everything."""
        self._stopping = True

    def over(self) -> bool:
        """Whether the last right was granted."""
        return self._over

    def kill(self) -> None:
        self._process.kill()

    # ---- in the administrator's process ------------------------------------------------

    async def _live(self) -> None:
        anyone = await self._connect()
        await self._add_users(anyone)
        await anyone.close()
        client = await self._connect(ROOT)
        await self._all_done(client.users.enable)
        self._enabled = True
        while not self._stopping:
            await asyncio.sleep(self._rng.expovariate(1 / ACT_EVERY_S))
            await self._act(client)
        await self._all_done(partial(client.users.grant_access, READER, "read", PREFIX, END))
        await client.close()
        self._over = True

    async def _add_users(self, client: KvClient) -> None:
        """Authentication is not enabled yet, so this needs no right."""
        users, roles = client.users, (EVERYONE, READER)
        await self._all_done(
            *(partial(users.add_user, name, password_of(name)) for name in (ROOT, *self._users)),
            *(partial(users.add_role, role) for role in roles),
        )
        await self._all_done(
            partial(users.grant_role, ROOT, ROOT),
            *(partial(users.grant_role, name, role) for name in self._users for role in roles),
            partial(users.grant_access, EVERYONE, "readwrite", FIRST_KEY, PREFIX),
            partial(users.grant_access, EVERYONE, "readwrite", END, ""),
            partial(users.grant_admin_right, EVERYONE, "maintenance"),
            partial(users.grant_admin_right, EVERYONE, "sessions"),
        )

    async def _act(self, client: KvClient) -> None:
        if self._workload.users and not self._stopping:
            invocation = self._workload.next_act(self._rng, switches=self._switches)
            await self._recorder.perform(client, WORKER, self._workload, invocation, ACT_TIMEOUT_S)

    async def _connect(self, user: str | None = None) -> KvClient:
        found: list[KvClient] = []

        async def attempt(timeout_s: float) -> None:
            client = await connect(
                self._cluster.endpoints,
                timeout=timeout_s,
                links=self._links.link,
                rng=self._world.rng(f"{HOST}/client"),
                user=user,
                password=None if user is None else password_of(user),
            )
            found.append(client)

        await self._all_done(attempt)
        return found[0]

    async def _all_done(self, *attempts: Attempt) -> None:
        """Each is made until it succeeds: nodes may be down, and the cluster's version may not have
        users yet.
        """
        await asyncio.gather(*map(self._done, attempts))

    async def _done(self, attempt: Attempt) -> None:
        while True:
            try:
                await attempt(timeout_s=SETUP_TIMEOUT_S)
            except OperationError as error:
                if error.reason in DONE_BEFORE:
                    return
                await asyncio.sleep(AGAIN_S)
            else:
                return

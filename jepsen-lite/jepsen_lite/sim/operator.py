"""The simulated operator: changes the membership through a production client, step by step."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Set
from random import Random

import raftkv
from jepsen_lite.sim.net.client_links import SimulatedClientNetwork
from jepsen_lite.sim.net.network import SimulatedNetwork
from jepsen_lite.sim.nodes.cluster import Cluster
from jepsen_lite.sim.nodes.host import address_of
from jepsen_lite.sim.process import Process
from jepsen_lite.sim.world import World
from jepsen_lite.workloads.rights import password_of
from raftkv.client.client import Client, Connecting
from raftkv.client.settings import ClientSettings
from raftkv.errors import Outcome, RaftkvError

TRIES_MAX = 20
TRY_S = 2.0
PAUSE_S = 0.3
MAINTENANCE_S = 8.0


def _no_callback() -> None:
    """The default `on_change`."""


class Operator:
    """Retries each change for a while, then leaves it as it is."""

    VOTERS_MIN = 2

    def __init__(
        self,
        world: World,
        network: SimulatedNetwork,
        cluster: Cluster,
        on_failure: Callable[[str], None],
        user: str | None,
    ) -> None:
        """`user`: whom to log in as; None: the cluster has no users."""
        self._world = world
        self._cluster = cluster
        self._user = user
        self._given = len(cluster.hosts)
        self._process = Process(  # type: ignore[abstract]  # only what is used
            world, "operator", on_exception=on_failure
        )
        self._links = SimulatedClientNetwork(world, network, cluster, self._process, "operator")
        self._one_at_a_time = asyncio.Lock()
        self.changes = 0
        self._outstanding = 0  # changes that were requested and have not ended
        self._choices = 0

    def reconfigure(
        self,
        remove: int,
        *,
        add: bool,
        add_first: bool,
        on_change: Callable[[], None] = _no_callback,
    ) -> None:
        """Remove the node of that id (0: none), add a new one, or both; then `on_change`."""

        def changed() -> None:
            self.changes += 1
            on_change()

        async def reconfigure() -> None:
            try:
                await self._reconfigure(remove, add, add_first, changed)
            finally:
                self._outstanding -= 1

        self._outstanding += 1
        self._process.enter(lambda: self._process.create_task(reconfigure()))

    def add_and_remove_learner(self, on_removed: Callable[[], None]) -> None:
        """Add a node that never gets a vote, and remove it once it has started."""

        async def add_and_remove() -> None:
            try:
                await self._add_and_remove_learner(on_removed)
            finally:
                self._outstanding -= 1

        self._outstanding += 1
        self._process.enter(lambda: self._process.create_task(add_and_remove()))

    @property
    def busy(self) -> bool:
        return self._outstanding > 0

    @property
    def maintenance_s(self) -> float:
        """How long the outstanding changes last at most for the maintenance in them alone."""
        return self._outstanding * MAINTENANCE_S

    def known_left(self, node_ids: Set[int]) -> bool:
        """Whether clients know one of these from the start, and can still reach it."""
        return any(each <= self._given for each in node_ids - self._cluster.damaged)

    def replace_damaged(self) -> None:
        """Replace every node whose disk is damaged or lost."""
        for node_id in sorted(self._cluster.damaged):
            self.reconfigure(node_id, add=True, add_first=False)

    def kill(self) -> None:
        self._process.kill()

    def _connect(self, addresses: list[str], rng: Random) -> Connecting:
        password = None if self._user is None else password_of(self._user)
        return raftkv.connect(
            addresses, user=self._user, password=password, links=self._links.link, rng=rng
        )

    async def _reconfigure(
        self, remove: int, add: bool, add_first: bool, changed: Callable[[], None]
    ) -> None:
        # The operator uses the addresses of all present machines, not only of the founders.
        addresses = [address_of(name).client for name in self._cluster.hosts]
        rng = self._world.rng(f"operator {len(addresses)}")
        self._choices += 1
        choice = self._world.rng(f"operator's choice {self._choices}")
        in_one, force, maintenance = (choice.random() < p for p in (0.5, 0.3, 0.5))
        async with self._one_at_a_time:
            with contextlib.suppress(RaftkvError):
                async with self._connect(addresses, rng) as client:
                    if add and remove and in_one:
                        await self._add(client, changed, in_place_of=remove)
                        return
                    if add and add_first:
                        await self._add(client, changed)
                    if remove and maintenance:
                        await self._remove_during_maintenance(client, remove, changed)
                    elif remove:
                        await self._remove(client, remove, changed, force=force)
                    if add and not add_first:
                        await self._add(client, changed)

    async def _add_and_remove_learner(self, on_removed: Callable[[], None]) -> None:
        addresses = [address_of(name).client for name in self._cluster.hosts]
        rng = self._world.rng(f"operator of learners {len(addresses)}")
        async with self._one_at_a_time:
            with contextlib.suppress(RaftkvError):
                async with self._connect(addresses, rng) as client:
                    host = self._cluster.add_host()
                    host.boot()
                    address = address_of(host.name)
                    for _ in range(TRIES_MAX):
                        members = await client.member_list(timeout=TRY_S)
                        known = host.node_id in {member.node_id for member in members}
                        with contextlib.suppress(RaftkvError):
                            if known and host.node is not None:
                                await client.member_remove(host.node_id, timeout=TRY_S)
                                on_removed()
                                return
                            if not known:
                                await client.member_add(
                                    host.node_id, address.peer, address.client, timeout=TRY_S
                                )
                        await asyncio.sleep(PAUSE_S)

    async def _add(self, client: Client, changed: Callable[[], None], in_place_of: int = 0) -> None:
        """A new voter: one more, or in one change with the removal of another member."""
        host = self._cluster.add_host()
        host.boot()
        address = address_of(host.name)
        for _ in range(TRIES_MAX):
            members = {member.node_id: member for member in await client.member_list(timeout=TRY_S)}
            known = members.get(host.node_id)
            if known is not None and not known.learner:
                changed()
                return
            try:
                if known is None:
                    await client.member_add(
                        host.node_id, address.peer, address.client, timeout=TRY_S
                    )
                elif in_place_of in members:
                    await client.member_replace(in_place_of, host.node_id, timeout=TRY_S)
                else:
                    await client.member_promote(host.node_id, timeout=TRY_S)
            except RaftkvError:
                await asyncio.sleep(PAUSE_S)

    async def _remove(
        self,
        client: Client,
        node_id: int,
        changed: Callable[[], None],
        *,
        force: bool,
        tries: int = TRIES_MAX,
    ) -> None:
        for tried in range(tries):
            members = await client.member_list(timeout=TRY_S)
            voters = {member.node_id for member in members if not member.learner}
            if all(member.node_id != node_id for member in members):
                if tried:  # else it had been removed before
                    changed()
                return
            mistake = self._is_mistake(node_id, voters)
            if mistake and not self._cluster.damaged & voters:
                return
            if not self.known_left({each.node_id for each in members} - {node_id}):
                # The last node that clients know from the start: let them find the others first.
                await asyncio.sleep(2 * ClientSettings().look_around_s)
            # A node that is down comes back, and with it the majority that a forced change waits
            # for; a node with a damaged disk does not.
            forced = force and not self._cluster.damaged and bool(self._cluster.down & voters)
            try:
                await client.member_remove(node_id, force=forced, timeout=TRY_S)
            except RaftkvError as error:
                if mistake:
                    return  # the cluster has refused it
                if error.outcome is Outcome.NOT_APPLIED:
                    await asyncio.sleep(PAUSE_S)

    async def _remove_during_maintenance(
        self, client: Client, node_id: int, changed: Callable[[], None]
    ) -> None:
        """Another machine is switched off meanwhile, and the operator has forgotten about it."""
        members = await client.member_list(timeout=TRY_S)
        voters = {member.node_id for member in members if not member.learner}
        hosts = [host for host in self._cluster.hosts.values() if host.node_id in voters]
        off = next((host for host in hosts if host.node_id != node_id), None)
        unwell = (self._cluster.down | self._cluster.damaged) & voters
        if off is None or len(voters) < 3 or unwell:
            await self._remove(client, node_id, changed, force=False)
            return
        off.stop()
        await asyncio.sleep(MAINTENANCE_S)
        try:
            await self._remove(client, node_id, changed, force=False, tries=2)
        finally:
            off.boot()

    def _is_mistake(self, node_id: int, voters: Set[int]) -> bool:
        """Whether too few good disks would be left without this node. The operator makes this
        mistake only where the cluster must refuse it: where a disk is damaged for good.
        """
        healthy = voters - self._cluster.damaged
        return node_id in healthy and len(healthy) <= self.VOTERS_MIN

"""Submissions that clients of ours do not make: in sessions of other users, checked long ago, or
made once more.

The model judges what becomes of them, as of all that is committed.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence

from jepsen_lite.sim.checks.state_machine import StateMachineInvariants
from jepsen_lite.sim.nodes.cluster import Cluster
from jepsen_lite.sim.nodes.host import Host
from jepsen_lite.sim.world import World
from jepsen_lite.workloads.rights import idempotency_key, keys_of
from raftkv.errors import RaftkvError
from raftkv.kv.rights import Rights
from raftkv.node.node import Node
from raftkv.peer.ports import Author
from raftkv.rpc.v1 import kv_pb2

EVERY_S = 0.3
DEADLINE_S = 1.0
FAR_SEQUENCE = 1 << 40
"""Sessions of clients do not get that far."""


class Impostor:
    """Submits as any of the users, at any node. `begin` starts it."""

    def __init__(
        self,
        world: World,
        cluster: Cluster,
        state_machines: StateMachineInvariants,
        users: Sequence[str],
    ) -> None:
        self._world = world
        self._cluster = cluster
        self._state_machines = state_machines
        self._users = users
        self._rng = world.rng("impostor")
        self._numbers = itertools.count(1)
        self._stopped = False

    def begin(self) -> None:
        """Submit now and then, from now on."""
        self._world.after(self._rng.expovariate(1 / EVERY_S), self._act)

    def stop(self) -> None:
        """Submit nothing more."""
        self._stopped = True

    def _act(self) -> None:
        if self._stopped:
            return
        host = self._rng.choice(list(self._cluster.hosts.values()))
        if host.node is not None and host.server is not None and not host.paused:
            user = host.node.machine.rights.ids.get(self._rng.choice(self._users), 0)
            make = self._rng.choice((self._in_another_session, self._from_behind, self._again))
            made = make(host.node, user) if user else None
            if made is not None:
                self._submit(host, *made)
        self.begin()

    def _submit(self, host: Host, commands: bytes, author: Author) -> None:
        node, process = host.node, host.process
        if node is None or process is None:
            return

        async def submit() -> None:
            with contextlib.suppress(RaftkvError):
                await node.submit(commands, process.time() + DEADLINE_S, author=author)

        process.enter(lambda: process.create_task(submit()))

    def _in_another_session(self, node: Node, user: int) -> tuple[bytes, Author] | None:
        """A batch in the session of another user."""
        machine = node.machine
        others = [lease for lease, owner in machine.owned_leases() if owner not in (0, user)]
        if not others:
            return None
        sequence = FAR_SEQUENCE + next(self._numbers)
        batch = kv_pb2.CommandBatch(session=self._rng.choice(others), sequence=sequence)
        batch.commands.append(self._put_of(machine.rights, user))
        return batch.SerializeToString(), Author(user, machine.rights.revision)

    def _from_behind(self, node: Node, user: int) -> tuple[bytes, Author] | None:
        """What a node has checked before users or roles changed; perhaps it had been sent before,
        under an idempotency key.
        """
        rights = node.machine.rights
        batch = kv_pb2.CommandBatch(commands=[self._put_of(rights, user)])
        if self._rng.random() < 0.5:
            batch.commands[0].idempotency_key = idempotency_key(0).encode()
        behind = self._rng.choice((1, 1, 2, 5))
        return batch.SerializeToString(), Author(user, max(0, rights.revision - behind))

    def _again(self, node: Node, _: int) -> tuple[bytes, Author] | None:
        """The last batch of a user that was applied in a session: nothing may acknowledge its
        result until the user gets a right again.

        A batch that was not applied may have been refused, and its client relies on that.
        """
        last = {}
        for commands, author in self._state_machines.last_submissions:
            batch = kv_pb2.CommandBatch.FromString(commands)
            if author.user and node.machine.has_result(batch.session, batch.sequence, author.user):
                last[author.user] = commands, author
        return self._rng.choice(list(last.values())) if last else None

    def _put_of(self, rights: Rights, user: int) -> kv_pb2.Command:
        start, _ = keys_of(rights.name_of(user))
        return kv_pb2.Command(put=kv_pb2.Put(key=f"{start}impostor".encode()))

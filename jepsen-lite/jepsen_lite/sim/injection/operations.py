"""Operator's requests as faults: transfers, changes of members and addresses, compactions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import TypeAlias

from jepsen_lite.faults.kinds import (
    AddressChange,
    Compaction,
    DirectRemoval,
    LearnerRemoval,
    MemberChange,
    Transfer,
)
from jepsen_lite.faults.record import OnEffect, Undo, no_action
from jepsen_lite.sim.injection.targets import Targets
from jepsen_lite.sim.nodes.cluster import Cluster
from jepsen_lite.sim.nodes.host import Host
from jepsen_lite.sim.operator import Operator
from raftkv.errors import RaftkvError
from raftkv.kv.rights import ROOT
from raftkv.node.node import Node
from raftkv.peer.ports import Author
from raftkv.raft.entry import Address
from raftkv.rpc.v1 import kv_pb2

OperatorFault: TypeAlias = (
    Transfer | MemberChange | DirectRemoval | AddressChange | LearnerRemoval | Compaction
)
PORTS_APART = 100


class OperatorFaults:
    """None of these requests is reverted."""

    def __init__(self, cluster: Cluster, targets: Targets, operator: Operator) -> None:
        self._cluster = cluster
        self._targets = targets
        self._operator = operator

    def begin(self, operation: OperatorFault, on_effect: OnEffect) -> Undo | None:
        """Send the request; None if no node can take it. `on_effect`: it was granted."""
        match operation:
            case Transfer():
                return self._transfer(operation, on_effect)
            case MemberChange():
                return self._reconfigure(operation, on_effect)
            case DirectRemoval():
                return self._ask(operation, on_effect)
            case AddressChange():
                return self._readdress(operation, on_effect)
            case LearnerRemoval():
                self._operator.add_and_remove_learner(on_effect)
                return no_action
            case Compaction():
                return self._compact(on_effect)

    def _transfer(self, fault: Transfer, on_effect: OnEffect) -> Undo | None:
        leader, target = self._cluster.leader(), self._cluster.hosts[fault.to]
        if leader is None or leader is target:
            return None

        async def hand_over(node: Node, deadline: float) -> bool:
            return await node.transfer_leader(target.node_id, deadline) == target.node_id

        return self._request(leader, hand_over, on_effect)

    def _reconfigure(self, fault: MemberChange, on_effect: OnEffect) -> Undo | None:
        host = self._targets.host(fault.remove) if fault.remove else None
        self._operator.reconfigure(
            host.node_id if host is not None else 0,
            add=fault.add,
            add_first=fault.add_first,
            on_change=on_effect,
        )
        return no_action

    def _ask(self, fault: DirectRemoval, on_effect: OnEffect) -> Undo | None:
        host, victim = self._targets.host(fault.node), self._cluster.hosts[fault.remove]
        if host is None or len(host.voters - self._cluster.damaged) <= self._operator.VOTERS_MIN:
            return None
        if not self._operator.known_left(host.voters - {victim.node_id}):
            return None
        # A node that is down comes back, and with it the majority that a forced change waits for; a
        # node with a damaged disk does not.
        force = fault.force and not self._cluster.damaged

        async def remove(node: Node, deadline: float) -> bool:
            there = victim.node_id in node.membership.members
            after = await node.member_remove(victim.node_id, deadline, force=force)
            return there and victim.node_id not in after.members

        return self._request(host, remove, on_effect)

    def _readdress(self, fault: AddressChange, on_effect: OnEffect) -> Undo | None:
        leader, host = self._cluster.leader(), self._targets.host(fault.node)
        if leader is None or host is None:
            return None

        async def update(node: Node, deadline: float) -> bool:
            known = node.membership.addresses.get(host.node_id)
            if known is None:
                return False
            moved = Address(_with_other_port(known.peer), _with_other_port(known.client))
            after = await node.member_update(host.node_id, moved, deadline)
            return after.addresses.get(host.node_id) == moved

        return self._request(leader, update, on_effect)

    def _compact(self, on_effect: OnEffect) -> Undo | None:
        leader = self._cluster.leader()

        async def compact(node: Node, deadline: float) -> bool:
            batch = kv_pb2.CommandBatch()
            batch.commands.add().compact.revision = node.machine.revision
            answer = kv_pb2.BatchResult()
            rights = node.machine.rights
            author = Author(rights.ids.get(ROOT, 0), rights.revision)
            request = node.submit(batch.SerializeToString(), deadline, author=author)
            answer.ParseFromString(await request)
            return not any(each.HasField("failure") for each in (answer, *answer.results))

        return self._request(leader, compact, on_effect) if leader is not None else None

    def _request(
        self,
        host: Host,
        make: Callable[[Node, float], Coroutine[None, None, bool]],
        on_effect: OnEffect,
    ) -> Undo | None:
        """Send a request that the node may refuse; a refusal is ignored. `make` returns whether it
        was granted.
        """
        node, process = host.node, host.process
        if node is None or process is None:
            return None

        async def request() -> None:
            with contextlib.suppress(RaftkvError):
                if await make(node, process.time() + 1.0):
                    on_effect()

        process.enter(lambda: process.create_task(request()))
        return no_action


def _with_other_port(address: str) -> str:
    """The same machine: a simulated one is found by its name alone."""
    name, _, port = address.rpartition(":")
    return f"{name}:{int(port) + PORTS_APART}"

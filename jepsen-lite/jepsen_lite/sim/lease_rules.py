"""What may happen to leases when entries are applied. Sees a state machine before and after."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

from jepsen_lite.sim.violation import Violation
from raftkv.kv.machine import StateMachine
from raftkv.rpc import kv_pb2


@dataclass(frozen=True, slots=True)
class SeenLeases:
    """(ttl_ms, deadline_ms) of each lease, and cluster time, when a node was looked at last."""

    time_ms: int = 0
    leases: dict[int, tuple[int, int]] = field(default_factory=dict)


def check_leases(
    node_id: int, machine: StateMachine, seen: SeenLeases, renewed: Set[int]
) -> SeenLeases:
    """Raises `Violation` if a lease lives on past its time, has more of it than a renewal gives, or
    other than before although it is none of those that were `renewed` in between.
    """
    now_ms = machine.time_ms
    leases = {
        lease: (ttl_ms, deadline_ms)
        for lease, (ttl_ms, deadline_ms) in machine._runner.leases._leases.items()
    }
    for lease, (ttl_ms, deadline_ms) in leases.items():
        if deadline_ms <= now_ms:
            raise Violation(f"node {node_id}: lease {lease} lives, but its time was over")
        if deadline_ms > now_ms + ttl_ms:
            raise Violation(f"node {node_id}: lease {lease} has more than its time to live")
        known = seen.leases.get(lease)
        if known is not None and known != (ttl_ms, deadline_ms) and lease not in renewed:
            raise Violation(
                f"node {node_id}: lease {lease} was to end at {known[1]} ms and now ends at"
                f" {deadline_ms} ms, but nobody has renewed it"
            )
    return SeenLeases(now_ms, leases)


def leases_named(commands: bytes) -> frozenset[int]:
    """The leases that these commands grant, renew or end."""
    named: set[int] = set()
    for command in kv_pb2.CommandBatch.FromString(commands).commands:
        named |= {command.lease_grant.lease, command.lease_renew.lease, command.lease_revoke.lease}
        named.update(command.lease_keep_alive.leases)
    return frozenset(named)

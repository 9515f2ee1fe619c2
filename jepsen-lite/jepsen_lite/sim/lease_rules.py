"""What may happen to leases when entries are applied. Sees a state machine before and after."""

from __future__ import annotations

from dataclasses import dataclass, field

from jepsen_lite.sim.violation import Violation
from raftkv.kv.machine import StateMachine


@dataclass(frozen=True, slots=True)
class SeenLeases:
    """(ttl_ms, deadline_ms) of each lease, and cluster time, when a node was looked at last."""

    time_ms: int = 0
    leases: dict[int, tuple[int, int]] = field(default_factory=dict)


def check_leases(node_id: int, machine: StateMachine, seen: SeenLeases) -> SeenLeases:
    """Raises `Violation` if a lease lives on past its time, or has more of it than anybody could
    have given it since it was seen last: a renewal gives a whole time to live, no earlier than
    then, and no later than now.
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
        if known is not None and deadline_ms < known[1] and ttl_ms == known[0]:
            raise Violation(f"node {node_id}: the time of lease {lease} became shorter")
    return SeenLeases(now_ms, leases)

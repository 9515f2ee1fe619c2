"""Rules for leases and revisions when entries are applied: a state machine before and after."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from jepsen_lite.sim.checks.violation import Violation
from raftkv.errors import DamagedData
from raftkv.kv.machine import StateMachine
from raftkv.kv.meta import Meta
from raftkv.kv.records import change_key, split_change_key, split_lease, unpack_lease
from raftkv.kv.store import Family
from raftkv.rpc.v1 import kv_pb2

REMOVED_WITHIN_MS: Final = 5_000
"""Of cluster time, which runs only while there is a leader to remove what is over."""


@dataclass(frozen=True, slots=True)
class SeenLeases:
    """(ttl_ms, deadline_ms) of each lease, and cluster time, when a node was looked at last."""

    time_ms: int = 0
    leases: dict[int, tuple[int, int]] = field(default_factory=dict)


def check_leases(
    node_id: int, machine: StateMachine, seen: SeenLeases, renewed: Set[int], granted: Set[int]
) -> SeenLeases:
    """Raises `Violation` if a lease has more than its time to live, or another deadline than before
    although it is none of those that were `renewed` in between; if it lives again although it was
    over and is none of those that were `granted`; or if its rows are there long after its end.
    """
    now_ms = machine.time_ms
    leases = {
        split_lease(key): unpack_lease(row)
        for key, row in machine.view.scan(Family.LEASES, b"", None)
    }
    for lease, (ttl_ms, deadline_ms) in leases.items():
        if deadline_ms + REMOVED_WITHIN_MS <= now_ms:
            raise Violation(
                f"node {node_id}: lease {lease} is still there, but its time was over"
                f" {now_ms - deadline_ms} ms ago"
            )
        if deadline_ms > now_ms + ttl_ms:
            raise Violation(f"node {node_id}: lease {lease} has more than its time to live")
        known = seen.leases.get(lease)
        if known is None or known == (ttl_ms, deadline_ms):
            continue
        if lease not in renewed:
            raise Violation(
                f"node {node_id}: lease {lease} was to end at {known[1]} ms and now ends at"
                f" {deadline_ms} ms, but it was not renewed"
            )
        if known[1] <= seen.time_ms and deadline_ms > known[1] and lease not in granted:
            raise Violation(f"node {node_id}: lease {lease} was over and lives again")
    return SeenLeases(now_ms, leases)


class NamedLeases(NamedTuple):
    """Leases in commands: those granted, and all that are granted, renewed or ended."""

    granted: frozenset[int] = frozenset()
    named: frozenset[int] = frozenset()

    def with_(self, other: NamedLeases) -> NamedLeases:
        return NamedLeases(self.granted | other.granted, self.named | other.named)


def leases_named(commands: bytes) -> NamedLeases:
    """The leases that these commands name."""
    granted: set[int] = set()
    named: set[int] = set()
    for command in kv_pb2.CommandBatch.FromString(commands).commands:
        granted.add(command.lease_grant.lease)
        named |= {command.lease_renew.lease, command.lease_revoke.lease}
        named.update(command.lease_keep_alive.leases)
    return NamedLeases(frozenset(granted), frozenset(named | granted))


EMPTY_STORE = Meta().revision


def check_revisions(node_id: int, machine: StateMachine, seen: int) -> int:
    """The machine's revision now, when it was `seen` before: it has gone on by one for each command
    that changed a key, so each revision in between has its changes, and none has any beyond it.
    """
    revision = machine.revision
    if revision < seen:
        raise Violation(f"node {node_id}: its revision went back from {seen} to {revision}")
    # A snapshot may bring revisions that were compacted before this node ever saw their changes.
    last, position = max(seen, machine.compacted_revision, EMPTY_STORE), 0
    try:
        changes = list(machine.view.scan(Family.CHANGES, change_key(last + 1, 0), None))
    except DamagedData:
        return revision  # its disk has lost what this looks at
    for row, _ in changes:
        found = split_change_key(row)
        if found == (last + 1, 0):
            last, position = last + 1, 1
        elif found == (last, position):
            position += 1
        else:
            raise Violation(
                f"node {node_id}: its revisions have a gap: what follows change {position - 1} of"
                f" revision {last} is change {found[1]} of revision {found[0]}"
            )
    if last != revision:
        raise Violation(
            f"node {node_id}: its revision is {revision}, but the last one that changed a key is"
            f" {last}"
        )
    return revision

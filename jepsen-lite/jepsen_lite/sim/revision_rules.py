"""What may happen to revisions when entries are applied. Sees a state machine before and after."""

from __future__ import annotations

from jepsen_lite.sim.violation import Violation
from raftkv.errors import DamagedData
from raftkv.kv.machine import StateMachine
from raftkv.kv.meta import Meta
from raftkv.kv.records import change_key, split_change_key
from raftkv.kv.store import Family

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

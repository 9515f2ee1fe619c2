"""The marks that are products of two lists."""

from __future__ import annotations

from collections.abc import Iterator

from jepsen_lite.sim.coverage.mark import (
    CHANGES,
    COMMAND_EVENTS,
    COMMANDS,
    LEVELS,
    MESSAGES,
    OF_SESSIONS,
    OUTSIDE_SESSIONS,
    REFUSALS_OF_CALLERS,
    REFUSALS_OF_COMMANDS,
    REFUSALS_OF_NODES,
    REPLICATION_EVENTS,
    ROLES,
    Mark,
    batch_refused,
    caller_refused,
    change_done,
    command_at,
    command_refused,
    crash_of,
    message_at,
    read_at,
    read_behind,
    replication_moves,
    replication_when,
)
from raftkv.raft.progress import Replication


def families() -> Iterator[Mark]:
    """All of them."""
    for name, meaning in _described():
        yield Mark(name, meaning)


def _described() -> Iterator[tuple[str, str]]:
    for kind in MESSAGES:
        for role, title in ROLES.items():
            yield message_at(kind, role), f"A {title} handles a {kind} of a peer."
    for role, title in ROLES.items():
        for power in (False, True):
            how = "loses power" if power else "is killed, or ends by itself"
            yield crash_of(role, power=power), f"The process of a {title} {how}."
    for state in Replication:
        for event, meaning in REPLICATION_EVENTS.items():
            yield (
                replication_when(state, event),
                f"In the leader's view a peer is in {state.value}, and {meaning}.",
            )
        for after in Replication:
            if after is not state:
                yield (
                    replication_moves(state, after),
                    f"A peer goes from {state.value} to {after.value} at its leader.",
                )
    for command in COMMANDS:
        for event, meaning in COMMAND_EVENTS.items():
            if not (command in OUTSIDE_SESSIONS and event in OF_SESSIONS):
                yield command_at(command, event), f"A {command} {meaning}."
    for reason in REFUSALS_OF_COMMANDS:
        yield command_refused(reason), f"The state machine refuses a command: {reason}."
    for reason in REFUSALS_OF_NODES:
        yield batch_refused(reason), f"A client learns that its batch is refused: {reason}."
    for reason in REFUSALS_OF_CALLERS:
        yield caller_refused(reason), f"A node refuses a peer at its handshake: {reason}."
    for level, title in enumerate(LEVELS):
        for leads in (True, False):
            where = "the leader" if leads else "a node that does not lead"
            yield read_at(level, leads=leads), f"A {title} read is answered at {where}."
        if title in ("stale", "session", "bounded"):
            yield (
                read_behind(level),
                f"A {title} read is answered from a state that lacks committed entries.",
            )
    for change in CHANGES:
        yield change_done(change), f"A change of membership ({change}) is committed."

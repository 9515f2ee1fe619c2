"""Start-up: what the disks hold becomes a Raft core and a state machine that fit together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from raftkv.errors import DamagedData
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.raft.entry import Entry, EntryKind, HardState, Membership
from raftkv.raft.log import Log
from raftkv.raft.membership import MembershipCodec
from raftkv.raft.raft import Raft
from raftkv.raft.ready import RaftConfig
from raftkv.storage.damage import rebuild_advice
from raftkv.storage.ports import LogStore, RecoveredLog, StateStorage

BOOTSTRAP_TERM = 1


@dataclass(frozen=True, slots=True)
class Recovered:
    raft: Raft
    machine: StateMachine


async def recover(
    node_id: int,
    config: RaftConfig,
    codec: MembershipCodec,
    rng: Random,
    limits: Limits,
    log_store: LogStore,
    state_storage: StateStorage,
    initial: Membership | None,
    require_first_start: Callable[[], Awaitable[None]] | None = None,
) -> Recovered:
    """Rebuild from what was persisted and nothing else.

    With `initial` and empty disks the node begins a new cluster: its log starts with the
    membership, the same entry on every first node; `require_first_start` is asked before that
    and raises if the disks must not be empty. Raises `DamagedData` if log and state can't belong
    together.
    """
    machine = StateMachine(state_storage.store, limits)
    recovered = log_store.recover()
    unused = not recovered.entries and recovered.hard_state == HardState()
    if unused and machine.applied_index == 0 and initial is not None:
        if require_first_start is not None:
            await require_first_start()
        recovered = await _bootstrap(log_store, codec, initial)
    recovered = await _reconcile(node_id, log_store, recovered, machine)
    log = Log(recovered.compacted_index, recovered.compacted_term, recovered.entries)
    raft = Raft(
        node_id,
        config,
        codec,
        rng,
        log,
        recovered.hard_state,
        machine.applied_index,
        machine.membership,
    )
    return Recovered(raft, machine)


async def _bootstrap(
    log_store: LogStore, codec: MembershipCodec, initial: Membership
) -> RecoveredLog:
    entry = Entry(BOOTSTRAP_TERM, 1, EntryKind.MEMBERSHIP, codec.encode(initial))
    hard_state = HardState(current_term=BOOTSTRAP_TERM, commit_index=1)
    await log_store.append(hard_state, [entry])
    return RecoveredLog(hard_state, 0, 0, [entry])


async def _reconcile(
    node_id: int, log_store: LogStore, recovered: RecoveredLog, machine: StateMachine
) -> RecoveredLog:
    """A crash between a snapshot's two steps leaves the new state beside the old log: finish it."""
    applied = machine.applied_index
    if applied < recovered.compacted_index:
        raise DamagedData(
            f"the state ends at index {applied}, but the log begins after"
            f" {recovered.compacted_index}: part of the state is lost; {rebuild_advice(node_id)}",
        )
    position = applied - recovered.compacted_index
    if position == 0:
        term = recovered.compacted_term
    elif position <= len(recovered.entries):
        term = recovered.entries[position - 1].term
    else:
        term = 0
    if term == machine.applied_term:
        return recovered
    await log_store.reset(applied, machine.applied_term)
    hard_state = recovered.hard_state
    if hard_state.current_term < machine.applied_term:
        hard_state = HardState(current_term=machine.applied_term)
        await log_store.append(hard_state, [])
    return RecoveredLog(hard_state, applied, machine.applied_term, [])

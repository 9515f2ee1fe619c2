"""Recovery at start: a Raft core and a state machine from what the stores hold."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from random import Random

from raftkv.errors import DamagedData
from raftkv.kv.machine import StateMachine
from raftkv.kv.new_cluster import begin_new_cluster
from raftkv.node.config import NodeConfig, NodeStores, require_version
from raftkv.raft.entry import Entry, EntryKind, HardState, encode_version
from raftkv.raft.log import Log
from raftkv.raft.membership import MembershipCodec
from raftkv.raft.raft import Raft
from raftkv.raft.ready import PersistedState
from raftkv.raft.running_hash import UNKNOWN, next_hash
from raftkv.storage.damage import rebuild_advice
from raftkv.storage.identity import DirectoryIdentity, Stage
from raftkv.storage.ports import LogStore, RecoveredLog, Start, Starts
from raftkv.wire.membership import decode_membership, encode_membership

BOOTSTRAP_TERM = 1
CODEC = MembershipCodec(encode_membership, decode_membership)


@dataclass(frozen=True, slots=True)
class Recovered:
    """A node before it takes part. `starts` includes the start that was just recorded."""

    raft: Raft
    machine: StateMachine
    starts: Starts


async def recover(
    identity: DirectoryIdentity, config: NodeConfig, stores: NodeStores, rng: Random
) -> Recovered:
    """Rebuild core and state machine from the stores alone, and record this start of the node.

    An unused log gets its beginning; founders write the same first entries. Raises `DamagedData` if
    log and state contradict each other, or if they are empty and must not be.
    """
    log_store = stores.log
    machine = StateMachine(
        stores.state.store, config.limits, config.step_units, config.mark_entries
    )
    recovered = log_store.recover()
    if not recovered.entries and recovered.hard_state == HardState() and not machine.applied_index:
        recovered = await _begin_log(log_store, identity, recovered)
    recovered = await _reconcile(identity.node_id, log_store, recovered, machine)
    log = log_of(recovered)
    require_one_history(log, machine)
    if identity.stage is Stage.REFOUNDING:
        machine = await _refound(identity, config, stores, recovered, machine)
        recovered = await _reconcile(identity.node_id, log_store, recovered, machine)
        log = log_of(recovered)
    persisted = PersistedState(log, recovered.hard_state, machine.applied_index, machine.membership)
    raft = Raft(identity.node_id, config.raft, CODEC, rng, persisted)
    own = Start(recovered.starts.own.number + 1, rng.getrandbits(64))
    starts = replace(recovered.starts, own=own)
    await log_store.write_starts(starts)
    return Recovered(raft, machine, starts)


async def _begin_log(
    log_store: LogStore, identity: DirectoryIdentity, recovered: RecoveredLog
) -> RecoveredLog:
    """The first entries of an empty log. Its hash begins with the incarnation."""
    seed = identity.empty_log_hash
    if identity.stage is Stage.MEMBER and not recovered.starts.own.number:
        raise DamagedData(
            f"the log of node {identity.node_id} is empty, although the node was a member: its"
            f" votes and entries are lost. `raftkv member replace {identity.node_id} NEW`"
        )
    if recovered.compacted_hash != seed:
        await log_store.reset(0, 0, seed)
    if identity.stage is not Stage.FOUNDING:
        return replace(recovered, compacted_hash=seed)
    entries = [
        Entry(BOOTSTRAP_TERM, 1, EntryKind.MEMBERSHIP, identity.membership),
        Entry(BOOTSTRAP_TERM, 2, EntryKind.VERSION, encode_version(identity.version)),
    ]
    hard_state = HardState(current_term=BOOTSTRAP_TERM, commit_index=len(entries))
    await log_store.append(hard_state, entries)
    return RecoveredLog(hard_state, 0, 0, entries, seed, recovered.starts)


async def _refound(
    identity: DirectoryIdentity,
    config: NodeConfig,
    stores: NodeStores,
    recovered: RecoveredLog,
    machine: StateMachine,
) -> StateMachine:
    """Make this node's log and state the beginning of the new cluster in `identity`.

    All entries of the log are applied, committed or not. The state gets one more entry, the new
    membership, so it is ahead of the log, as after a snapshot: `_reconcile` then ends the log
    there, and nodes that join later begin with a snapshot. After a crash the next start goes on.
    """
    require_version(machine.cluster_version, config.versions)
    if machine.membership != decode_membership(identity.membership):
        log = log_of(recovered)
        steps = machine.apply_in_steps(
            recovered.entries[machine.applied_index - recovered.compacted_index :],
            lambda index: log.hash(index) or UNKNOWN,
        )
        for _ in steps:
            await asyncio.sleep(0)
        term = max(recovered.hard_state.current_term, log.last_term) + 1
        first = Entry(term, log.last_index + 1, EntryKind.MEMBERSHIP, identity.membership)
        hash_there = next_hash(machine.applied_hash, first)
        begin_new_cluster(stores.state.store, first, hash_there)
    await stores.state.sync()
    return StateMachine(stores.state.store, config.limits, config.step_units)


def log_of(recovered: RecoveredLog) -> Log:
    """The log in memory."""
    return Log(
        recovered.compacted_index,
        recovered.compacted_term,
        recovered.entries,
        recovered.compacted_hash,
    )


def require_one_history(log: Log, machine: StateMachine) -> None:
    """Raise `DamagedData` if the state is not that of this log."""
    index, hash_there = machine.applied_index, machine.applied_hash
    if log.contradicts(index, machine.applied_term, hash_there):
        raise DamagedData(
            f"log and state are of two histories: at index {index} the log has the running hash"
            f" {log.hash(index) or 0:016x}, the state {hash_there:016x}. Keep this directory, and"
            " replace the node by one with a new id: `raftkv member replace`"
        )


async def _reconcile(
    node_id: int, log_store: LogStore, recovered: RecoveredLog, machine: StateMachine
) -> RecoveredLog:
    """Reset a log that does not belong to the state."""
    log = reconciled(node_id, recovered, machine)
    if log is not recovered:
        # The term first: a log may not end with a later term than the node's.
        if log.hard_state != recovered.hard_state:
            await log_store.append(log.hard_state, [])
        await log_store.reset(log.compacted_index, log.compacted_term, log.compacted_hash)
    return log


def reconciled(node_id: int, recovered: RecoveredLog, machine: StateMachine) -> RecoveredLog:
    """The log that belongs to the state: `recovered`, or an empty one after the state's last entry.

    A crash during the installation of a snapshot may leave the new state with the old log. Raises
    `DamagedData` if part of the state is lost.
    """
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
    hard_state = recovered.hard_state
    if hard_state.current_term < machine.applied_term:
        hard_state = HardState(current_term=machine.applied_term)
    return RecoveredLog(
        hard_state, applied, machine.applied_term, [], machine.applied_hash, recovered.starts
    )

"""Reopens what a power cut has left, with production code, and checks what was promised."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random

from jepsen_lite.power_cuts.killed_node import KilledNodes, next_entry
from jepsen_lite.power_cuts.promises import Promises
from jepsen_lite.power_cuts.stored_node import LogWrapper, StoredNode, open_node
from jepsen_lite.sim.replicas.applied_log import digest_families
from raftkv.errors import DamagedData, InvariantViolation, StorageError
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.kv.store import StateStore
from raftkv.raft.entry import Entry
from raftkv.raft.log import Log
from raftkv.storage.memory_state import MemoryStateStore

REFUSED = "refused"
"""The log reports that it is damaged: the node must be replaced, and nothing false is served."""


class ReferenceStates:
    """The digest of the state after each of the committed entries, from a store in memory."""

    def __init__(self, entries: Sequence[Entry], empty_log_hash: int) -> None:
        log, store = Log(0, 0, entries, empty_log_hash), MemoryStateStore()
        machine = StateMachine(store, Limits())
        self._digests = [digest_families(store)]
        for entry in entries:
            machine.apply([entry], log.hash(entry.index) or 0)
            self._digests.append(digest_families(store))

    def differ_from(self, store: StateStore, index: int) -> bool:
        """Whether the store is not as after the entry at `index`."""
        return digest_families(store) != self._digests[index]


async def check_reopened(
    path: Path,
    promises: Promises,
    reference: ReferenceStates,
    *,
    may_refuse: bool,
    killed: KilledNodes | None,
) -> str:
    """Open the node in `path` and check it. Returns the problem, `REFUSED`, or nothing.

    With `killed` a copy of the node also appends an entry after its recovery and is killed, and is
    opened once more. `may_refuse`: blocks of the log's tail may be missing before others that are
    there. The log can't distinguish that from damage to acknowledged entries, so it may refuse to
    open.
    """
    copied = path if killed is None else _copied(path)
    try:
        node = await open_node(path, Random(0), LogWrapper())
    except DamagedData as error:
        if may_refuse and str(path / "log") in error.message:
            return REFUSED
        return f"the node does not start: {error}"
    except (StorageError, InvariantViolation) as error:
        return f"the node does not start: {type(error).__name__}: {error}"
    try:
        entry = next_entry(node.recovered.raft)
        problem = _problem(node, promises, reference)
    finally:
        await node.close()
    if problem or killed is None:
        return problem
    problem = killed.append_and_kill(copied)
    if problem:
        return f"the node that was to be killed failed: {problem}"
    return await _problem_after_kill(copied, entry)


def _copied(path: Path) -> Path:
    """A copy of a node that is not open. The power cut may have left none."""
    copied = path.with_name(f"{path.name}-killed")
    if path.exists():
        shutil.copytree(path, copied)
    return copied


async def _problem_after_kill(path: Path, entry: Entry) -> str:
    """The problem of a node that had appended this entry after its recovery."""
    try:
        node = await open_node(path, Random(0), LogWrapper())
    except (StorageError, InvariantViolation) as error:
        return f"the node does not start a second time: {type(error).__name__}: {error}"
    found = node.found.entries
    await node.close()
    if not found or found[-1] != entry:
        return f"entry {entry.index}, appended after the recovery, is gone"
    return ""


def _problem(node: StoredNode, promises: Promises, reference: ReferenceStates) -> str:
    machine, raft = node.recovered.machine, node.recovered.raft
    applied = machine.applied_index
    problem = promises.broken_by(node.found) or promises.broken_by_state(applied)
    if problem:
        return problem
    if reference.differ_from(node.state.store, applied):
        return f"the state says that it ends at index {applied}, but its rows are others"
    rest = raft.log.entries(applied + 1, raft.commit_index + 1, 1 << 62)
    if rest:
        machine.apply(rest, raft.log.hash(raft.commit_index) or 0)
        if reference.differ_from(node.state.store, raft.commit_index):
            return f"entries {applied + 1}..{raft.commit_index} do not lead to the state after them"
    return ""

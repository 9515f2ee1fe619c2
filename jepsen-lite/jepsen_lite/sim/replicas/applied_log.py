"""A committed log applied to a state machine in memory, and digests of what came of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from raftkv.kv.limits import Limits
from raftkv.kv.machine import Applied, StateMachine
from raftkv.kv.store import Family, StateStore
from raftkv.raft.entry import Entry
from raftkv.raft.log import Log
from raftkv.storage.memory_state import MemoryStateStore

COMPARED_EVERY = 100
"""Entries between two digests."""
_RUN_MAX = 20
_ANY_HASH = 1  # of the empty log: the same in all replicas


class StateDigests(NamedTuple):
    """The digests after the entry at `last_index`: of each family, and of the new results."""

    last_index: int
    families: dict[str, str]
    results: str


def apply_log(entries: Sequence[Entry], runs: str) -> list[StateDigests]:
    """Apply the entries, and digest the state and the results after each `COMPARED_EVERY` of them.

    `runs` is the seed of the numbers of entries that are applied together. At each digest the
    machine is rebuilt from its store, as after a restart.
    """
    rng, log, store = Random(f"{runs}/runs"), Log(0, 0, entries, _ANY_HASH), MemoryStateStore()
    digests: list[StateDigests] = []
    for first in range(0, len(entries), COMPARED_EVERY):
        machine = StateMachine(store, Limits())
        part = entries[first : first + COMPARED_EVERY]
        results, at = hashlib.sha256(), 0
        while at < len(part):
            run = part[at : at + rng.randint(1, _RUN_MAX)]
            for applied in machine.apply(run, log.hash(run[-1].index) or 0):
                results.update(_line(applied))
            at += len(run)
        digests.append(StateDigests(part[-1].index, digest_families(store), results.hexdigest()))
    return digests


def digest_families(store: StateStore) -> dict[str, str]:
    """The digest of the rows of each family."""
    return {family.value: _digest(store, family) for family in Family}


def _digest(store: StateStore, family: Family) -> str:
    hashed = hashlib.sha256()
    for key, value in store.scan(family, b"", None):
        hashed.update(b"%d %d " % (len(key), len(value)) + key + value)
    return hashed.hexdigest()


def _line(applied: Applied) -> bytes:
    head = f"{applied.index} {applied.origin} {applied.number} {len(applied.result)} "
    return head.encode() + applied.result

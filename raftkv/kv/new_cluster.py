"""The state of a cluster that lost its majority, as the beginning of a new cluster."""

from __future__ import annotations

from typing import Final

from raftkv.kv.compaction import Compaction
from raftkv.kv.meta import MEMBERSHIP_KEY, META_KEY, read_meta
from raftkv.kv.overlay import Overlay
from raftkv.kv.store import Family, StateStore
from raftkv.raft.entry import Entry

NUMBERS_SKIPPED: Final = 1_000_000_000
"""The old cluster may have given out later revisions, fencing tokens and lease ids than the state
of which a new one is made. The new cluster gives none of them out a second time."""


def begin_new_cluster(store: StateStore, first: Entry, hash_there: int) -> None:
    """Turn the state into that of the cluster whose first entry is `first`, a membership.

    `first` follows the last applied entry, and `hash_there` is the running hash up to it. One
    atomic write, durable after the next sync. The revision and the number of leases granted skip
    `NUMBERS_SKIPPED`, and revisions before the new one are compacted, so that a reader of a
    revision that was lost gets an error. Keys, leases, sessions and cluster time stay. A
    `StateMachine` on this store must be rebuilt.
    """
    meta = read_meta(store)
    meta.applied_index, meta.applied_term, meta.applied_hash = first.index, first.term, hash_there
    meta.revision += NUMBERS_SKIPPED
    meta.leases_granted += NUMBERS_SKIPPED
    Compaction(Overlay(store), meta).start(meta.revision)
    store.write({Family.META: {MEMBERSHIP_KEY: first.payload, META_KEY: meta.encode()}})

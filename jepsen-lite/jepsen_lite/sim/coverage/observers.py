"""Counts the marks that one simulation reaches."""

from __future__ import annotations

import contextlib
from collections import Counter

from jepsen_lite.sim.coverage import (
    clients,
    commands,
    coordination,
    elections,
    membership,
    reads,
    replication,
    rights,
    snapshots,
    storage,
    watches,
)
from jepsen_lite.sim.coverage.marks import MARKS
from jepsen_lite.sim.coverage.wraps import Wraps
from jepsen_lite.sim.nodes.cluster import Cluster


class MarkCounter:
    """Counts marks while `observing` is entered.

    The observers look at production functions that are wrapped meanwhile, in the whole process. So
    one simulation at a time may be observed.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.counts: Counter[str] = Counter()
        wraps = self._wraps = Wraps()
        reach = self.reach
        elections.observe_messages(wraps, reach)
        elections.observe_votes(wraps, reach)
        elections.observe_leaders(wraps, reach)
        replication.observe_leaders_side(wraps, reach)
        replication.observe_followers_side(wraps, reach)
        replication.observe_states(wraps, reach, cluster)
        snapshots.observe_transfers(wraps, reach)
        snapshots.observe_installations(wraps, reach)
        membership.observe_changes(wraps, reach)
        membership.observe_departures(wraps, reach)
        storage.observe_crashes(wraps, reach, cluster)
        storage.observe_recoveries(wraps, reach)
        reads.observe_read_indexes(wraps, reach)
        reads.observe_levels(wraps, reach, cluster.invariants)
        reads.observe_scans(wraps, reach)
        reads.observe_history(wraps, reach)
        commands.observe_commands(wraps, reach)
        commands.observe_proposals(wraps, reach)
        coordination.observe_leases(wraps, reach)
        coordination.observe_kept_leases(wraps, reach)
        coordination.observe_locks(wraps, reach)
        rights.observe_apply(wraps, reach)
        rights.observe_callers(wraps, reach)
        watches.observe_watches(wraps, reach)
        watches.observe_resumed_watches(wraps, reach)
        clients.observe_retries(wraps, reach)
        clients.observe_admission(wraps, reach)

    def reach(self, name: str) -> None:
        """Count a mark. Raises `KeyError` for a name that is not in the table."""
        if name not in MARKS:
            raise KeyError(name)
        self.counts[name] += 1

    def observing(self) -> contextlib.AbstractContextManager[None]:
        """While this is entered, marks are counted."""
        return self._wraps.installed()

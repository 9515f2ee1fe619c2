"""All planted bugs, by theme."""

from __future__ import annotations

from collections.abc import Mapping

from jepsen_lite.mutants import (
    alike,
    availability,
    bounds,
    clocks,
    commits,
    coordination,
    disks,
    elections,
    features,
    memberships,
    processes,
    reads,
    rights,
    snapshots,
)
from jepsen_lite.mutants.mutant import Mutant

THEMES = (
    *(elections, commits, reads, snapshots, memberships, coordination, disks, bounds),
    *(features, alike, processes, availability, clocks, rights),
)
MUTANTS: Mapping[str, Mutant] = {each.name: each for theme in THEMES for each in theme.MUTANTS}

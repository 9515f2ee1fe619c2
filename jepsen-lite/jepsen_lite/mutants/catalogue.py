"""All planted bugs, in the order of faults.md's themes."""

from __future__ import annotations

from collections.abc import Mapping

from jepsen_lite.mutants import (
    availability,
    bounds,
    clocks,
    commits,
    coordination,
    disks,
    elections,
    features,
    memberships,
    reads,
    snapshots,
)
from jepsen_lite.mutants.mutant import Mutant

THEMES = (
    *(elections, commits, reads, snapshots, memberships, coordination, disks, bounds),
    *(features, availability, clocks),
)
MUTANTS: Mapping[str, Mutant] = {each.name: each for theme in THEMES for each in theme.MUTANTS}

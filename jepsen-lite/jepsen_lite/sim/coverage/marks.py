"""The table of all marks, by name, in the order in which they are printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from jepsen_lite.sim.coverage.consensus_marks import (
    ELECTIONS,
    MEMBERSHIP,
    REPLICATION,
    SNAPSHOTS,
    STORAGE,
)
from jepsen_lite.sim.coverage.families import families
from jepsen_lite.sim.coverage.mark import Mark
from jepsen_lite.sim.coverage.service_marks import (
    CLIENTS,
    COMMANDS,
    COORDINATION,
    READS,
    RIGHTS,
    WATCHES,
)
from jepsen_lite.sim.coverage.unexpected import UNEXPECTED

PLAIN_MARKS = (
    *(*ELECTIONS, *REPLICATION, *SNAPSHOTS, *MEMBERSHIP, *STORAGE),
    *(*READS, *COMMANDS, *COORDINATION, *RIGHTS, *WATCHES, *CLIENTS),
)
"""Those that have a name of their own."""

MARKS: Mapping[str, Mark] = {
    mark.name: replace(mark, unexpected=UNEXPECTED.get(mark.name, ""))
    for mark in (*PLAIN_MARKS, *families())
}

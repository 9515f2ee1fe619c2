"""The settings of simulated nodes."""

from __future__ import annotations

from dataclasses import dataclass

from raftkv.kv.limits import Limits
from raftkv.kv.pace import STEP_UNITS
from raftkv.node.config import NodeConfig
from raftkv.raft.ready import RaftConfig
from raftkv.versions import VersionRange

SCRUB_INTERVAL_S = 15.0
"""Some rounds within a run, with time enough between them for damage to travel."""


@dataclass(frozen=True, slots=True)
class NodeTuning:
    """How the nodes of a run are set up: small logs, so that they are compacted within it."""

    tick_ms: int
    log_retained_bytes: int
    log_compaction_bytes: int
    append_bytes_max: int
    in_flight_messages_max: int
    leader_lease: bool = False
    step_units: int = STEP_UNITS
    """Small ones have nearly every run applied in several turns of the loop."""
    older_programs: bool = False
    """Each first node runs a program of cluster version 0 until it starts for the second time."""

    def node_config(self, versions: VersionRange) -> NodeConfig:
        return NodeConfig(
            raft=RaftConfig(
                append_bytes_max=self.append_bytes_max,
                in_flight_messages_max=self.in_flight_messages_max,
                leader_lease=self.leader_lease,
            ),
            tick_s=self.tick_ms / 1000,
            limits=Limits(),
            submissions_in_flight_max=4096,
            uncommitted_bytes_max=64 << 20,
            log_retained_bytes=self.log_retained_bytes,
            log_compaction_bytes=self.log_compaction_bytes,
            versions=versions,
            scrub_interval_s=SCRUB_INTERVAL_S,
            step_units=self.step_units,
        )

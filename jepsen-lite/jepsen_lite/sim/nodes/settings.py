"""The settings of simulated nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from raftkv.config import Settings
from raftkv.kv.limits import Limits
from raftkv.kv.pace import STEP_UNITS
from raftkv.node.config import NodeConfig
from raftkv.raft.ready import RaftConfig
from raftkv.versions import VersionRange

SCRUB_INTERVAL_S = 15.0
"""Some rounds within a run, with time enough between them for damage to travel."""


MARK_ENTRIES = 16
"""Nodes compare their states often enough within a run."""

SIGNING_KEY_AGE_MS_MAX = 9_000
"""Longer than the time to live of a token, and short enough to be reached within a run."""


@dataclass(frozen=True, slots=True)
class NodeBounds:
    """Bounds of a node's queues, buffers and messages, by default those of production; tiny ones
    are reached within a run.
    """

    submissions_in_flight_max: int = 4096
    requests_per_client_max: int = 1024
    watch_buffer_bytes_max: int = 4 << 20
    watches_max: int = 100_000
    reply_bytes_max: int = 4 << 20
    apply_bytes_max: int = 1 << 20
    entry_bytes_max: int = 1 << 20
    in_flight_bytes_max: int = 16 << 20


@dataclass(frozen=True, slots=True)
class HistoryTuning:
    """The bounds of the history, by default those of production."""

    revisions_min: int = 1_000
    age_ms_max: int = 3_600_000
    bytes_max: int = 1 << 30
    pin_s_max: float = 60.0


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
    bounds: NodeBounds = field(default_factory=NodeBounds)
    history: HistoryTuning = field(default_factory=HistoryTuning)

    @property
    def limits(self) -> Limits:
        return Limits(reply_bytes_max=self.bounds.reply_bytes_max)

    def settings(self, node_id: int, directory: Path, client: str, peer: str) -> Settings:
        """The settings of the node with these addresses to listen on."""
        return Settings(
            node_id=node_id,
            tick_ms=self.tick_ms,
            data_dir=directory,
            client_listen=client,
            peer_listen=peer,
            submissions_in_flight_max=self.bounds.submissions_in_flight_max,
            requests_per_client_max=self.bounds.requests_per_client_max,
            watch_buffer_bytes_max=self.bounds.watch_buffer_bytes_max,
            watches_max=self.bounds.watches_max,
            limits=self.limits,
        )

    def node_config(self, versions: VersionRange) -> NodeConfig:
        return NodeConfig(
            raft=RaftConfig(
                append_bytes_max=self.append_bytes_max,
                apply_bytes_max=self.bounds.apply_bytes_max,
                in_flight_messages_max=self.in_flight_messages_max,
                in_flight_bytes_max=self.bounds.in_flight_bytes_max,
                leader_lease=self.leader_lease,
            ),
            tick_s=self.tick_ms / 1000,
            limits=self.limits,
            submissions_in_flight_max=self.bounds.submissions_in_flight_max,
            uncommitted_bytes_max=64 << 20,
            log_retained_bytes=self.log_retained_bytes,
            log_compaction_bytes=self.log_compaction_bytes,
            entry_bytes_max=self.bounds.entry_bytes_max,
            versions=versions,
            scrub_interval_s=SCRUB_INTERVAL_S,
            mark_entries=MARK_ENTRIES,
            step_units=self.step_units,
            signing_key_age_ms_max=SIGNING_KEY_AGE_MS_MAX,
            history_revisions_min=self.history.revisions_min,
            history_age_ms_max=self.history.age_ms_max,
            history_bytes_max=self.history.bytes_max,
            history_pin_s_max=self.history.pin_s_max,
        )

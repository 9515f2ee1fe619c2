"""The configuration of a node, and the stores that it runs on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raftkv.errors import ConfigurationError
from raftkv.kv.limits import Limits
from raftkv.kv.pace import STEP_UNITS
from raftkv.kv.state_hash import MARK_ENTRIES
from raftkv.node import scrub
from raftkv.raft.ready import RaftConfig
from raftkv.storage.identity import IdentityStore
from raftkv.storage.ports import LogStore, StateStorage
from raftkv.versions import SUPPORTED, VersionRange


def no_stopwatch() -> float:
    """A clock that stands still: nothing is measured."""
    return 0.0


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """The core counts time in ticks; one tick takes `tick_s` seconds."""

    raft: RaftConfig
    tick_s: float
    limits: Limits
    submissions_in_flight_max: int
    """Pending proposals of this node's clients, at most."""

    uncommitted_bytes_max: int
    """Bytes of pending proposals of this node's clients, at most."""

    log_retained_bytes: int
    """A compaction keeps about this much of the log, for followers that lag."""

    log_compaction_bytes: int
    """A log that is longer than this is compacted."""

    entry_bytes_max: int = 1 << 20
    """A COMMANDS entry is about this long at most; a single larger proposal is an entry alone."""

    versions: VersionRange = SUPPORTED
    """The cluster versions that this program can take part in."""

    scrub_interval_s: float = scrub.INTERVAL_S
    signing_key_age_ms_max: int = 24 * 3_600_000
    """A leader replaces a signing key of this age, in cluster time."""

    mark_entries: int = MARK_ENTRIES
    """The distance of the indexes at which members compare their states; the same at all."""

    history_revisions_min: int = 1_000
    """Automatic compaction leaves this many revisions before the present one."""

    history_age_ms_max: int = 3_600_000
    """History that was superseded longer ago, in cluster time, is compacted; 0: none for its
    age.
    """

    history_bytes_max: int = 1 << 30
    """More history than this is compacted; 0: none for its size."""

    history_pin_s_max: float = 60.0
    """A compaction waits this long at most for the reads and watches that need the history."""

    step_units: int = STEP_UNITS
    """Work units of one step of an apply or a read."""

    stopwatch: Callable[[], float] = no_stopwatch
    """Seconds since any moment, for measurements that decide nothing."""

    @property
    def election_timeout_s_min(self) -> float:
        return self.raft.election_ticks_min * self.tick_s

    @property
    def election_timeout_s_max(self) -> float:
        return self.raft.election_ticks_max * self.tick_s


@dataclass(frozen=True, slots=True)
class NodeStores:
    """The open stores of one data directory."""

    identities: IdentityStore
    log: LogStore
    state: StateStorage


def require_version(version: int, versions: VersionRange) -> None:
    """Raise `ConfigurationError` if this program can't take part in a cluster of that version.

    It would apply later entries differently from the other nodes.
    """
    if version not in versions:
        raise ConfigurationError(
            f"the cluster is at version {version}, and this program can take part in versions"
            f" {versions}. Fix: run a raftkv that can; the data directory stays as it is.",
            key="cluster_version",
        )

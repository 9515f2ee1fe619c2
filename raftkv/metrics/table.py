"""All metrics of a node: the one table from which /metrics and its reference page are made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class MetricKind(StrEnum):
    """The types of Prometheus that a node uses."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One metric: its name with the unit at its end, and the names of its labels."""

    name: str
    kind: MetricKind
    meaning: str
    labels: tuple[str, ...] = ()


METRICS: Final[list[Metric]] = []
"""In the order of the reference page."""


def _add(kind: MetricKind, name: str, meaning: str, labels: tuple[str, ...]) -> Metric:
    metric = Metric(f"raftkv_{name}", kind, meaning, labels)
    METRICS.append(metric)
    return metric


def _counter(name: str, meaning: str, *labels: str) -> Metric:
    return _add(MetricKind.COUNTER, name, meaning, labels)


def _gauge(name: str, meaning: str, *labels: str) -> Metric:
    return _add(MetricKind.GAUGE, name, meaning, labels)


def _histogram(name: str, meaning: str, *labels: str) -> Metric:
    return _add(MetricKind.HISTOGRAM, name, meaning, labels)


# ---- the node ------------------------------------------------------------------------------

BUILD_INFO = _gauge("build_info", "1; the versions that run.", "version", "python")
IN_SERVICE = _gauge("in_service", "1 while the node takes part in the cluster, 0 in standby.")
READY = _gauge("ready", "1 while all checks of /readyz pass, those that need a majority included.")
REPORT_AGE = _gauge(
    "report_age_seconds",
    "Age of these values. The event loop of the node replaces them every 0.25 s unless it stalls.",
)
LOOP_LAG = _histogram(
    "event_loop_lag_seconds", "How late the event loop was at a timer of every 0.25 s."
)
GC_PAUSE = _histogram("gc_pause_seconds", "Pauses by Python's garbage collection.", "generation")
CERTIFICATE_EXPIRY = _gauge(
    "certificate_expiry_timestamp_seconds",
    "When the first certificate in the file of this setting expires, as a Unix time.",
    "setting",
)

# ---- Raft ----------------------------------------------------------------------------------

TERM = _gauge("raft_term", "The current term.")
IS_LEADER = _gauge("raft_is_leader", "1 at the leader.")
HAS_LEADER = _gauge("raft_has_leader", "1 while this node knows a leader of its term.")
LEADER_CHANGES = _counter(
    "raft_leader_changes_total",
    "How often this node has seen another leader than before, or the same one in a new term.",
)
MEMBERS = _gauge("raft_members", "Members of the cluster by role.", "role")
COMMIT_INDEX = _gauge("raft_commit_index", "The last entry known to be committed.")
APPLIED_INDEX = _gauge("raft_applied_index", "The last entry applied to the state.")
LAST_LOG_INDEX = _gauge("raft_last_log_index", "The last entry of the log.")
LOG_BYTES = _gauge("raft_log_bytes", "The log that is not compacted, which is held in memory.")
PROPOSALS = _counter(
    "raft_proposals_total",
    "Batches of this node's clients by outcome: applied, not_applied or unknown.",
    "outcome",
)
PROPOSALS_PENDING = _gauge(
    "raft_proposals_pending", "Batches of this node's clients without an outcome yet."
)
SNAPSHOTS = _counter("raft_snapshots_total", "Snapshots: sent or installed.", "direction")
PEER_CONTACT_AGE = _gauge(
    "raft_peer_contact_age_seconds",
    "Time since the last message of this peer. Followers exchange none with each other.",
    "peer",
)
PEER_REACHABLE = _gauge(
    "raft_peer_reachable", "1 if this peer answers, or its connection stands.", "peer"
)
PEER_LAG = _gauge(
    "raft_peer_lag_entries",
    "Entries of the log that this peer has not acknowledged; at the leader only.",
    "peer",
)
APPLY = _histogram(
    "apply_seconds", "Duration of the apply of one run of committed entries to the state."
)

# ---- disk ----------------------------------------------------------------------------------

LOG_WRITE = _histogram(
    "log_write_seconds", "Duration of one write to the log, from its begin to the end of its sync."
)
LOG_SYNC = _histogram("log_sync_seconds", "Duration of the fsync alone of a write to the log.")
LOG_WRITE_AGE = _gauge(
    "log_write_age_seconds", "Age of the write to the log that is under way; 0: none is."
)
DISK_FREE = _gauge("disk_free_bytes", "Free space on the disk of the data directory.")
DISK_RESERVE = _gauge(
    "disk_reserve_bytes", "Below this much free space the node refuses requests that store data."
)
DISK_LOW = _gauge(
    "disk_low", "1 while the node refuses requests that store data, for lack of free space."
)
STATE_BYTES = _gauge("state_disk_bytes", "Size of the state on disk.")

# ---- requests ------------------------------------------------------------------------------

REQUESTS = _counter(
    "requests_total",
    "Requests that have ended, by method and outcome: OK, CANCELLED by the caller, or the reason"
    " of an error. A batch of our own client is one of Pipeline/commands or Pipeline/reads.",
    *("method", "outcome"),
)
REQUEST_DURATION = _histogram(
    "request_seconds",
    "Duration of requests at the node, without the network, whatever their outcome.",
    "method",
)
OPERATIONS = _counter(
    "operations_total", "Commands and reads in the batches of Pipeline.", "method"
)
REQUESTS_IN_FLIGHT = _gauge("requests_in_flight", "Requests that were admitted and have not ended.")
REQUEST_BYTES_IN_FLIGHT = _gauge(
    "request_in_flight_bytes", "Size of the requests that were admitted and have not ended."
)
UNREAD_REPLY_BYTES = _gauge("unread_reply_bytes", "Replies that clients have not read yet.")
OPEN_CALLS = _gauge("open_calls", "Open gRPC calls, by the kind that shares a bound.", "kind")

# ---- state ---------------------------------------------------------------------------------

REVISION = _gauge("revision", "The revision of the store.")
COMPACTED_REVISION = _gauge(
    "compacted_revision", "The oldest revision that can be read; 0: nothing was compacted."
)
LEASES = _gauge("leases", "Leases that have not ended.")
SESSIONS = _gauge("sessions", "Sessions of clients whose results this cluster remembers.")
LOCK_WAITS = _gauge("lock_waits", "Calls that wait at this node for a lock.")
WATCHES = _gauge("watches", "Watches at this node.")
WATCH_STREAMS = _gauge("watch_streams", "Streams of these watches.")
WATCH_EVENTS = _counter(
    "watch_events_total", "Events sent as they happened, once per stream and filter of watches."
)
WATCH_FALLBACKS = _counter(
    "watch_fallbacks_total",
    "How often the watches of a stream fell behind and had to read on from the history.",
)

"""What the experiments found: plain values that go to JSON as they are."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Measurement:
    """One workload on one system in one round. CPU seconds are of all nodes, RSS of the largest.

    `other_cores`: how many cores all the rest of the machine kept busy meanwhile; far above
    zero, the figures say more about the machine than about the system.
    """

    system: str
    operation: str
    tasks: int
    keys: int
    client: str
    operations: int
    seconds: float
    per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    server_cpu_s_per_1000: float
    client_cpu_s_per_1000: float
    server_rss_bytes: int
    other_cores: float
    errors: dict[str, int]
    histogram: str  # HDR-encoded latencies in microseconds


@dataclass(frozen=True, slots=True)
class Failover:
    """One SIGKILL of a leader.

    `write_s`: from the kill to the first acknowledgement of a write begun after it.
    `longest_wait_s`: the longest that any write begun around the kill waited for its answer.
    `failed`: how many of these writes ended in an error instead.
    """

    system: str
    write_s: float
    longest_wait_s: float
    failed: int


@dataclass(frozen=True, slots=True)
class Restart:
    """One node, killed and started again on a full store.

    `ready_s`: from the start of the process until it knows the leader and serves a linearizable
    read; `rss_bytes` at that moment and a little later (`rss_bytes_settled`).
    """

    system: str
    keys: int
    ready_s: float
    rss_bytes: int
    rss_bytes_settled: int
    rss_bytes_peak: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class Handover:
    """A queue of waiters, served one after the other; `fifo`: in the order in which they came."""

    waiters: int
    per_second: float
    fifo: bool


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What it costs the nodes to keep many leases alive: cores kept busy, per node."""

    leases: int
    ttl_s: float
    node_cores: list[float]
    idle_node_cores: list[float]
    lost: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """How long after its put was issued an event reached a watcher, in another process.

    `kind` says what they watched; `missing` how many events some watcher did not get.
    """

    kind: str
    watchers: int
    puts_per_second: float
    deliveries_per_second: float
    p50_ms: float
    p99_ms: float
    missing: int


@dataclass(frozen=True, slots=True)
class Results:
    """Everything one run of the benchmark found, and where."""

    machine: dict[str, str]
    arguments: dict[str, str]
    throughput: list[Measurement] = field(default_factory=list)
    security: list[Measurement] = field(default_factory=list)
    failover: list[Failover] = field(default_factory=list)
    restart: list[Restart] = field(default_factory=list)
    growth: list[Measurement] = field(default_factory=list)
    handovers: list[Handover] = field(default_factory=list)
    upkeep: list[Upkeep] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    etcdctl_check_perf: list[str] = field(default_factory=list)

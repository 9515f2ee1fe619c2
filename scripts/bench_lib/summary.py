"""From what was measured to the figures that count: medians over rounds, and ratios."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from bench_lib.results import Delivery, Failover, Handover, Measurement, Restart, Results, Upkeep
from bench_lib.workload import Operation

OURS, THEIRS = "raftkv", "etcd"
NOUNS = {
    Operation.PUT: ("puts", "writers"),
    Operation.GET: ("gets", "readers"),
    Operation.FOLLOWER_GET: ("follower's gets", "readers"),
    Operation.STALE_GET: ("its stale gets", "readers"),
    Operation.LOCK: ("locks", "names"),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """The rounds of one workload on one system. Every figure is a median over rounds."""

    rounds: tuple[Measurement, ...]

    @property
    def first(self) -> Measurement:
        return self.rounds[0]

    def median(self, figure: Callable[[Measurement], float]) -> float:
        return median(map(figure, self.rounds))

    @property
    def per_second(self) -> float:
        return self.median(lambda each: each.per_second)

    @property
    def p50_ms(self) -> float:
        return self.median(lambda each: each.p50_ms)

    @property
    def p99_ms(self) -> float:
        return self.median(lambda each: each.p99_ms)

    @property
    def server_cpu_s_per_1000(self) -> float:
        return self.median(lambda each: each.server_cpu_s_per_1000)

    @property
    def client_cpu_s_per_1000(self) -> float:
        return self.median(lambda each: each.client_cpu_s_per_1000)

    @property
    def cpu_s_per_1000(self) -> float:
        """Of the nodes and the load generator."""
        return self.median(lambda each: each.server_cpu_s_per_1000 + each.client_cpu_s_per_1000)

    @property
    def server_rss_bytes(self) -> float:
        return self.median(lambda each: each.server_rss_bytes)

    @property
    def other_cores(self) -> float:
        return self.median(lambda each: each.other_cores)

    @property
    def spread(self) -> float:
        """Half the distance between the best and the worst round, as a share of the median."""
        speeds = [each.per_second for each in self.rounds]
        return (max(speeds) - min(speeds)) / 2 / self.per_second if self.per_second else 0.0

    @property
    def errors(self) -> int:
        return sum(sum(each.errors.values()) for each in self.rounds)


def cells(measurements: Iterable[Measurement]) -> list[Cell]:
    """Measurements grouped by workload and system, in the order in which they were made."""
    groups: dict[tuple[str, int, int, str], list[Measurement]] = {}
    for each in measurements:
        groups.setdefault((each.operation, each.tasks, each.keys, each.system), []).append(each)
    return [Cell(tuple(group)) for group in groups.values()]


def pairs(measurements: Iterable[Measurement]) -> list[tuple[Cell, Cell]]:
    """(ours, theirs) for every workload that both systems have run."""
    by_workload: dict[tuple[str, int, int], dict[str, Cell]] = {}
    for cell in cells(measurements):
        key = cell.first.operation, cell.first.tasks, cell.first.keys
        by_workload.setdefault(key, {})[cell.first.system] = cell
    both = [(each[OURS], each[THEIRS]) for each in by_workload.values() if len(each) == 2]
    return [(ours, theirs) for ours, theirs in both if theirs.per_second]


def workload_name(measurement: Measurement) -> str:
    """Such as `puts at 100 writers`."""
    if measurement.operation == Operation.OVERWRITE:
        return f"puts over {measurement.keys:,} keys"
    if measurement.operation == Operation.PUT and measurement.keys:
        return f"puts beside {measurement.keys:,} keys"
    noun, tasks = NOUNS[Operation(measurement.operation)]
    return f"{noun} at {measurement.tasks} {tasks if measurement.tasks != 1 else tasks[:-1]}"


def throughput_lines(measurements: Sequence[Measurement]) -> list[str]:
    """Throughput, ours by theirs; for a lone caller, who waits, the p50 as well."""
    lines = []
    for ours, theirs in pairs(measurements):
        name = workload_name(ours.first)
        lines.append(f"ratio {name}: {ours.per_second / theirs.per_second:.2f}")
        if ours.first.tasks == 1:
            lines.append(f"ratio p50 of {name}: {ours.p50_ms / theirs.p50_ms:.2f}")
    return lines


def own_lines(measurements: Sequence[Measurement]) -> list[str]:
    """One of our figures by another: a lock by a put, a stale read by a linearizable one."""
    own = {
        (cell.first.operation, cell.first.tasks): cell
        for cell in cells(measurements)
        if cell.first.system == OURS
    }
    lines = []
    put, lock = own.get((Operation.PUT, 1)), own.get((Operation.LOCK, 1))
    if put and lock:
        lines.append(f"ratio p50 of a lock and unlock by a put: {lock.p50_ms / put.p50_ms:.2f}")
    for (operation, tasks), cell in own.items():
        linearizable = own.get((Operation.FOLLOWER_GET, tasks))
        if operation == Operation.STALE_GET and linearizable:
            ratio = cell.per_second / linearizable.per_second
            lines.append(f"ratio stale gets from a follower by linearizable ones: {ratio:.2f}")
    return lines


def security_lines(measurements: Sequence[Measurement]) -> list[str]:
    """What each protection costs, by the cluster without it: throughput, and CPU over all."""
    by_workload: dict[str, list[Cell]] = {}
    for cell in cells(measurements):
        by_workload.setdefault(workload_name(cell.first), []).append(cell)
    lines = []
    for name, clusters in by_workload.items():
        for before, after in itertools.combinations(clusters, 2):
            what = f"{name}, {after.first.system} by {before.first.system}"
            speed = after.per_second / before.per_second
            cpu = after.cpu_s_per_1000 / before.cpu_s_per_1000
            lines.append(f"ratio {what}: {speed:.2f}; CPU of nodes and client: {cpu:.2f}")
    return lines


def handover_lines(handovers: Sequence[Handover]) -> list[str]:
    if not handovers:
        return []
    order = "in order" if all(each.fifo for each in handovers) else "OUT OF ORDER"
    speed = median(each.per_second for each in handovers)
    return [f"one lock handed over between {handovers[0].waiters} waiters: {speed:.0f}/s, {order}"]


def upkeep_lines(upkeeps: Sequence[Upkeep]) -> list[str]:
    if not upkeeps:
        return []
    busiest = median(max(each.node_cores) for each in upkeeps)
    idle = median(max(each.idle_node_cores) for each in upkeeps)
    return [
        f"{upkeeps[0].leases} leases of {upkeeps[0].ttl_s:.0f} s kept alive:"
        f" {busiest:.1%} of a core on the busiest node ({idle:.1%} without them),"
        f" {sum(each.lost for each in upkeeps)} lost"
    ]


def delivery_lines(deliveries: Sequence[Delivery]) -> list[str]:
    lines = []
    for kind in dict.fromkeys(each.kind for each in deliveries):
        own = [each for each in deliveries if each.kind == kind]
        lines.append(
            f"{own[0].watchers} watchers {kind} at {median(e.puts_per_second for e in own):.0f}"
            f" puts/s: delivered after p50 {median(e.p50_ms for e in own):.1f} ms,"
            f" p99 {median(e.p99_ms for e in own):.1f} ms;"
            f" {median(e.deliveries_per_second for e in own):,.0f} deliveries/s,"
            f" {sum(e.missing for e in own)} missing"
        )
    return lines


def growth_lines(measurements: Sequence[Measurement]) -> list[str]:
    """What a put costs in the large store, by what it costs in the small one."""
    by_kind: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells(measurements):
        by_kind.setdefault((cell.first.system, cell.first.operation), []).append(cell)
    lines = []
    for (system, operation), sizes in by_kind.items():
        if len(sizes) != 2:
            continue
        small, large = sorted(sizes, key=lambda cell: cell.first.keys)
        put = "overwrite" if operation == Operation.OVERWRITE else "put of a new key"
        where = f"at {large.first.keys} keys by {small.first.keys}, {system}"
        cpu = large.server_cpu_s_per_1000 / small.server_cpu_s_per_1000
        lines.append(f"ratio CPU per {put} {where}: {cpu:.2f}")
        lines.append(f"ratio time per {put} {where}: {small.per_second / large.per_second:.2f}")
    return lines


def failover_lines(failovers: Sequence[Failover]) -> list[str]:
    lines = []
    for system in (OURS, THEIRS):
        own = [each for each in failovers if each.system == system]
        if own:
            times = [each.write_s for each in own]
            lines.append(
                f"failover {system}: median {median(times):.2f} s, worst {max(times):.2f} s"
                f" of {len(own)}; longest wait of a write"
                f" {max(each.longest_wait_s for each in own):.2f} s,"
                f" {sum(each.failed for each in own)} failed"
            )
    return lines


def restart_lines(restarts: Sequence[Restart]) -> list[str]:
    lines = []
    for system in (OURS, THEIRS):
        own = [each for each in restarts if each.system == system]
        if own:
            rss_bytes = max(max(each.rss_bytes, each.rss_bytes_settled) for each in own)
            lines.append(
                f"restart {system} with {own[0].keys} keys:"
                f" {median(each.ready_s for each in own):.2f} s,"
                f" {rss_bytes / 1e6:.0f} MB"
            )
    return lines


def final_lines(results: Results) -> list[str]:
    """What the benchmark ends with."""
    return [
        *throughput_lines(results.throughput),
        *own_lines(results.throughput),
        *security_lines(results.security),
        *handover_lines(results.handovers),
        *upkeep_lines(results.upkeep),
        *delivery_lines(results.deliveries),
        *growth_lines(results.growth),
        *failover_lines(results.failover),
        *restart_lines(results.restart),
    ]

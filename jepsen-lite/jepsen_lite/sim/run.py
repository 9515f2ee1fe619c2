"""One simulation of a seed, from the first boot to the verdict."""

from __future__ import annotations

import math
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random

from jepsen_lite.checkers.losses import check_losses
from jepsen_lite.faults.kinds import UNREAD, NetworkConditions, Schedule
from jepsen_lite.faults.record import FaultRecord
from jepsen_lite.history import History, Kind
from jepsen_lite.judge import safely, titled
from jepsen_lite.sim.checks.invariants import Invariants
from jepsen_lite.sim.checks.leadership import LeadershipBounds
from jepsen_lite.sim.checks.lease_trust import LeaseTrust
from jepsen_lite.sim.checks.queue_bounds import QueueBounds
from jepsen_lite.sim.checks.starvation import StarvationBound
from jepsen_lite.sim.checks.violation import Violation
from jepsen_lite.sim.clients import ClientLoad, Clients, ClientTuning
from jepsen_lite.sim.context import SimulationContext
from jepsen_lite.sim.coverage.observers import MarkCounter
from jepsen_lite.sim.injection.disk_schedule import with_lost_disk
from jepsen_lite.sim.injection.injector import SimulatedNemesis
from jepsen_lite.sim.injection.schedule import draw_compactions, draw_conditions, draw_schedule
from jepsen_lite.sim.injection.strangers import draw_strangers
from jepsen_lite.sim.lock_liveness import LockLiveness
from jepsen_lite.sim.net.client_conditions import ClientConditions
from jepsen_lite.sim.net.network import SimulatedNetwork
from jepsen_lite.sim.net.traffic import TrafficEvent
from jepsen_lite.sim.node_logs import follow
from jepsen_lite.sim.nodes.cluster import Cluster
from jepsen_lite.sim.nodes.settings import NodeTuning
from jepsen_lite.sim.operator import Operator
from jepsen_lite.sim.replicas.pool import ReplicaPool
from jepsen_lite.sim.world import World
from jepsen_lite.verdicts import Finding, Problem, Validity, texts_of
from jepsen_lite.workloads.base import Workload
from jepsen_lite.workloads.catalogue import READ_WITHOUT_MAJORITY, WORKLOADS
from jepsen_lite.workloads.removals import RemovedLeaderWorkload, RemovedLockWorkload
from raftkv.kv.pace import STEP_UNITS

BOOT_S = 10.0
LIVENESS_S = 10.0
OPERATOR_S = 60.0
LOCK_LIVENESS_S = 60.0
STANDSTILL_S = 120.0
"""Each client sends several requests, and waits for each until its own deadline."""
FINAL_READS_S = 60.0
"""A watcher reads for some seconds, and there may be many; each read has a deadline of its own."""
PLAIN = "anything"
"""The scenario that mixes all kinds of faults."""
SWARM = "swarm"
"""What `sim` runs by itself: no scenario, but something of each."""
OPERATIONS_PER_WORKER_AND_S = 5.0
ALWAYS_JUDGED = ("register", "counter", "set")
COMPARE_EVERY_S = 1.0
SIMULATOR_FAILED = "the simulator itself failed"
CHECKER_FAILED = "the checker itself failed"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a seed decides before the run, so that a part of it can be changed."""

    seed: int
    nodes: int
    clients: int
    workers_per_client: int
    seconds: float
    think_s: float
    session_ttl_ms: int
    clock_skew: float
    conditions: NetworkConditions
    tuning: NodeTuning
    schedule: Schedule
    workloads: tuple[str, ...]
    scenario: str = PLAIN
    founding: Schedule = ()
    """Faults whose moments count from the first boot; those of `schedule` count from the moment
    when the clients are served.
    """
    rate: float | None = None
    """The load in operations per second, if it was asked for and not drawn."""
    client_tuning: ClientTuning = field(default_factory=ClientTuning)
    client_conditions: ClientConditions = field(default_factory=ClientConditions)
    base: str = ""
    """Of a swarm's plan: the scenario whose faults it has."""
    workloads_asked: bool = False
    """Whether the workloads were asked for and not drawn."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `problems` is empty if all is well.

    `failed_s` is when something broke within the run; None if all went well, or if only what the
    clients saw gives it away. `happenings` are kept of a run that failed only.
    """

    plan: Plan
    problems: tuple[str, ...]
    history: History
    simulated_s: float
    operations: Counter[str]
    faults: Counter[str]
    """Those that took effect, by kind."""
    members_changed: int
    checks: int
    leaders: int
    findings: tuple[Finding, ...]
    fault_records: tuple[FaultRecord, ...]
    failed_s: float | None
    happenings: tuple[TrafficEvent, ...]
    served: bool
    """False: a majority of the members had lost their disks, so nothing was to be served."""
    marks: Counter[str]
    """The marks that the run has reached, by name."""
    reduced: bool = False
    """Whether faults were left out that the failure does not need."""

    @property
    def vacuous(self) -> str:
        """Why nothing was proved although all held; empty if something was."""
        if not self.operations[Kind.OK]:
            return "no operation succeeded"
        return "" if self.faults.keys() - {UNREAD} else "no fault took effect"


def draw_plan(seed: int, seconds: float = 30.0, nodes: int | None = None) -> Plan:
    """What this seed is about."""
    rng = Random(f"{seed}/plan")
    drawn = rng.choice((3, 3, 3, 5))
    nodes = nodes or drawn
    names = [f"node-{number}" for number in range(1, nodes + 1)]
    leader_lease = rng.random() < 0.3
    workloads = _draw_workloads(rng, steady_clocks=leader_lease)
    schedule = draw_schedule(rng, names, seconds, steady_clocks=leader_lease)
    if "counter" not in workloads:  # whose history is looked at in the end
        schedule += draw_compactions(rng, seconds)
    schedule += draw_strangers(Random(f"{seed}/strangers"), names, seconds)
    log_compaction_bytes = rng.choice((4 << 10, 32 << 10, 64 << 20))
    plan = Plan(
        seed=seed,
        nodes=nodes,
        clients=rng.choice((2, 3)),
        workers_per_client=rng.choice((1, 2, 3)),
        seconds=seconds,
        think_s=rng.choice((0.1, 0.3, 1.0)),
        session_ttl_ms=rng.choice((1_500, 5_000, 60_000)),
        clock_skew=rng.choice((0.0, 0.0, 0.03 if leader_lease else 0.05)),
        conditions=draw_conditions(rng) if rng.random() < 0.3 else NetworkConditions(),
        tuning=NodeTuning(
            tick_ms=50,
            log_retained_bytes=log_compaction_bytes // rng.choice((2, 8)),
            log_compaction_bytes=log_compaction_bytes,
            append_bytes_max=rng.choice((400, 4_000, 1 << 20)),
            in_flight_messages_max=rng.choice((2, 64)),
            leader_lease=leader_lease,
            # A draw of its own, so that the rest of a seed's plan stays what it was.
            older_programs=Random(f"{seed}/programs").random() < 0.2,
            step_units=Random(f"{seed}/steps").choice((4, 16, STEP_UNITS)),
        ),
        schedule=schedule,
        workloads=workloads,
    )
    schedule, founding = with_lost_disk(
        Random(f"{seed}/disks"),
        schedule,
        names,
        seconds,
        fair=plan.conditions == NetworkConditions(),
    )
    return replace(plan, schedule=schedule, founding=founding)


def at_rate(plan: Plan, rate: float) -> Plan:
    """The same under another load: so many operations per simulated second, all clients together.

    A worker waits for its answer before it asks again, so each is asked for few: else what waits
    for a slow answer would make the load smaller than it is called.
    """
    workers = math.ceil(rate / plan.clients / OPERATIONS_PER_WORKER_AND_S)
    think_s = plan.clients * workers / rate
    return replace(plan, workers_per_client=workers, think_s=think_s, rate=rate)


def _draw_workloads(rng: Random, *, steady_clocks: bool) -> tuple[str, ...]:
    """Always some that are cheap to judge; leases are promised to those whose clocks are steady."""
    if rng.random() < 0.2:
        return ("register", "set", "watch")
    more = [("bank",), ("append",), ()]
    if steady_clocks:
        more += [("lock", "lease"), ("fenced-lock",), ("election",)]
    return ("register", "counter", "set", "queue", *rng.choice(more))


class _Stopped(Exception):
    """The run can't go on; the problems say why."""


class Simulation:
    """One run. Everything in it is made anew."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan = plan
        self.problems: list[str] = []
        self.findings: list[Finding] = []
        self.failed_s: float | None = None
        self.served = True
        self.history = History()
        self.world = World(plan.seed)
        follow(self.world)
        self.network = SimulatedNetwork(self.world, plan.conditions, plan.client_conditions)
        self.invariants = Invariants()
        self.workloads: Sequence[Workload] = [WORKLOADS[name]() for name in plan.workloads]
        context = SimulationContext(self.world, self.network, self._fail)
        self.cluster = Cluster(
            context, self.invariants, plan.nodes, plan.tuning, plan.clock_skew, directory
        )
        self.marks = MarkCounter(self.cluster)
        load = ClientLoad(
            plan.clients,
            plan.workers_per_client,
            plan.think_s,
            plan.session_ttl_ms,
            plan.client_tuning,
        )
        self.clients = Clients(context, self.cluster, self.workloads, self.history, load)
        self.lock_liveness = LockLiveness(self.world, self.clients, self.workloads, self._fail)
        self.leadership = LeadershipBounds(
            self.world, self.network, self.cluster, plan.tuning.tick_ms / 1000, self._fail
        )
        self.starvation = StarvationBound(
            self.world, self.network, self.cluster, self.clients, self.leadership, self._fail
        )
        self.lease_trust = LeaseTrust(self.world, self.cluster, self.clients, self._fail)
        self.queues = QueueBounds(self.world, self.cluster, self.clients, self._fail)
        self.operator = Operator(self.world, self.network, self.cluster, self._fail)
        self.nemesis = SimulatedNemesis(
            self.world, self.network, self.cluster, self.operator, self.clients.hosts
        )

    def execute(self, replicas: ReplicaPool | None = None) -> Outcome:
        """Boot, inject faults, heal, check liveness, judge. The replicas apply the log again."""
        try:
            with self.marks.observing():
                self._begin()
                self.nemesis.begin(self.plan.schedule)
                self._pass(self.plan.seconds)
                self._recover()
        except _Stopped:
            pass
        finally:
            self._end()
        if not self.problems:
            self.problems += self._judge()
        if not self.problems and replicas is not None:
            entries = self.invariants.committed_entries
            different = replicas.differences(self.plan.seed, entries)
            self.problems += different
            self.findings += [
                Finding("replicas", Validity.INVALID, (Problem(text),)) for text in different
            ]
        return Outcome(
            self.plan,
            tuple(self.problems),
            self.history,
            self.world.now_s,
            Counter(event.kind for event in self.history.events if event.kind is not Kind.INVOKE),
            self.nemesis.took_effect,
            self.operator.changes,
            self.invariants.checks,
            len(self.invariants.leaders),
            tuple(self.findings),
            self.nemesis.fault_records,
            self.failed_s,
            tuple(self.cluster.traffic.happenings) if self.problems else (),
            self.served,
            self.marks.counts,
        )

    def _judge(self) -> list[str]:
        """The problems of the history.

        A search that gave up and a checker that raised are problems. A run without some kind of
        operation, or without a node to read from at the end, is none.
        """
        problems: list[str] = []
        for workload in self.workloads:
            found = safely(workload.name, partial(self._checked, workload))
            self.findings += [replace(each, checker=titled(workload.name, each)) for each in found]
            problems += [
                f"{workload.name}: {text}"
                for finding in found
                for text in texts_of(finding)
                if finding.validity is Validity.INVALID
                or (workload.name in ALWAYS_JUDGED and self.served)
                or CHECKER_FAILED in text
            ]
        return problems

    def _checked(self, workload: Workload) -> list[Finding]:
        found = workload.check(self.history)
        if isinstance(workload, RemovedLockWorkload | RemovedLeaderWorkload):
            operations = list(self.history.operations(workload.name))
            acquire, release = workload.acquires, workload.releases
            found.append(check_losses(operations, acquire, release, self.nemesis.fault_records))
        return found

    def _await_operator(self, what: str) -> None:
        limit_s = OPERATOR_S + self.operator.maintenance_s
        self._await(lambda: not self.operator.busy, limit_s, what)

    def _fail(self, problem: str, checker: str = "invariants") -> None:
        text = f"at {self.world.now_s:.6f} s: {problem}"
        self.problems.append(text)
        self.findings.append(Finding(checker, Validity.INVALID, (Problem(text),)))
        if self.failed_s is None:
            self.failed_s = self.world.now_s
        self.world.stop()

    def _begin(self) -> None:
        self.nemesis.begin(self.plan.founding)
        for host in self.cluster.hosts.values():
            host.boot()
        self.clients.start()
        self._await(self.clients.connected, BOOT_S, "the clients reached a leader")
        self.leadership.begin()
        self.starvation.begin()
        self.lease_trust.begin()
        self.queues.begin()

    def _recover(self) -> None:
        """Heal everything; the cluster must work again within its deadlines."""
        self.nemesis.heal(NetworkConditions())
        self.clients.stop_load()
        self._await(self.clients.idle, LIVENESS_S, "every operation under way has ended")
        if not self.cluster.must_serve:
            self._stand_still()
            return
        self._await_operator("the operator was done")
        self._await(
            self._no_clone_in_service,
            LIVENESS_S,
            "of two nodes that run from one disk, one left service",
        )
        self.cluster.switch_off_lost()
        self.operator.replace_damaged()
        self._advance(self.world.now_s + COMPARE_EVERY_S)
        self._await_operator("every node that has lost its disk was replaced")
        self.clients.begin_last_writes()
        self._await(self.clients.idle, LIVENESS_S, "every client could write again")
        self._hand_over()
        self.clients.begin_final_reads()
        self._await(self.clients.idle, FINAL_READS_S, "a client could read everything")
        for problem in self.clients.final_failures:
            self._fail(f"liveness: {problem}", "liveness")
        self._await(self.cluster.settled, LIVENESS_S, "all nodes were ready with equal logs")
        self._await_empty_queues()
        self._compare()

    def _await_empty_queues(self) -> None:
        """A leader keeps the progress of a removed peer for a while."""
        until_s = self.world.now_s + LIVENESS_S
        while left_over := self.queues.left_over():
            if self.world.now_s >= until_s:
                self._fail(
                    f"queues: nothing has been under way for {LIVENESS_S} s, but {left_over}"
                )
                raise _Stopped
            self._advance(self.world.now_s + COMPARE_EVERY_S)

    def _stand_still(self) -> None:
        """A majority of the members have lost their disks: no client may be served any more."""
        self.served = False
        self._advance(self.world.now_s + LIVENESS_S)
        before = len(self.history.events)
        self.clients.begin_last_writes()
        self._await(self.clients.idle, STANDSTILL_S, "every client's operation has ended")
        served = [
            each
            for each in self.history.events[before:]
            if each.kind is Kind.OK
            and not (each.function == "read" and each.workload in READ_WITHOUT_MAJORITY)
        ]
        if served:
            self._fail(
                f"a majority of the members have lost their disks, but {served[0].function} on"
                f" {served[0].key} was served: a new history has begun beside the old one"
            )
        self._compare()

    def _no_clone_in_service(self) -> bool:
        return not self.cluster.doubled

    def _hand_over(self) -> None:
        """Locks and elections, if there are any. Each handover has a deadline of its own."""
        self.clients.begin_releases()
        self._await(self.clients.idle, LIVENESS_S, "every hold was released")
        for begin in (
            self.lock_liveness.begin_round,
            self.lock_liveness.begin_last_holds,
            self.lock_liveness.begin_succession,
        ):
            begin()
            self._await(
                self.lock_liveness.over,
                LOCK_LIVENESS_S,
                "every waiting client acquired its lock or election",
            )

    def _pass(self, seconds: float) -> None:
        until_s = self.world.now_s + seconds
        while self.world.now_s < until_s:
            self._advance(min(until_s, self.world.now_s + COMPARE_EVERY_S))
            self._compare()

    def _await(self, holds: Callable[[], bool], seconds: float, what: str) -> None:
        until_s = self.world.now_s + seconds
        while not holds():
            if self.world.now_s >= until_s:
                problem = f"liveness: within {seconds} s it did not happen that {what}"
                self._fail(problem, "liveness")
                raise _Stopped
            self._advance(min(until_s, self.world.now_s + 0.1))

    def _advance(self, until_s: float) -> None:
        try:
            self.world.run_until(until_s)
        except Violation as violation:
            self._fail(str(violation))
        except Exception:  # noqa: BLE001 - the simulator's own bug must not look like a pass
            self._fail(f"{SIMULATOR_FAILED}:\n{traceback.format_exc()}", "simulator")
        if self.problems:
            raise _Stopped

    def _compare(self) -> None:
        try:
            self.cluster.compare_states()
        except Violation as violation:
            self._fail(str(violation))
            raise _Stopped from violation

    def _end(self) -> None:
        for host in self.cluster.machines:
            host.crash(power=False)
        self.clients.kill()
        self.operator.kill()


def run(plan: Plan, replicas: ReplicaPool | None = None) -> Outcome:
    """Carry out a plan. If there are replicas in other processes, they apply its log as well."""
    with tempfile.TemporaryDirectory(prefix="jepsen-lite-") as directory:
        return Simulation(plan, Path(directory)).execute(replicas)


RUNS_MAX = 40


def shrunk(
    failed: Outcome, runs_max: int = RUNS_MAX, replicas: ReplicaPool | None = None
) -> Outcome:
    """A run with part of the faults that fails, too; at worst the same one.

    Halves first, then quarters and so on (delta debugging). Another failure than the first is
    as welcome: it is one.
    """
    runs, size = 0, max(1, len(failed.plan.schedule) // 2)
    while size and runs < runs_max:
        start = 0
        while start < len(failed.plan.schedule) and runs < runs_max:
            schedule = failed.plan.schedule
            attempt = run(
                replace(failed.plan, schedule=schedule[:start] + schedule[start + size :]), replicas
            )
            runs += 1
            if attempt.problems:
                failed = attempt
            else:
                start += size
        size //= 2
    return replace(failed, reduced=True)

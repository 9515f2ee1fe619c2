"""One simulation of a seed, from the first boot to the verdict."""

from __future__ import annotations

import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from jepsen_lite.checkers.losses import check_losses
from jepsen_lite.faults.kinds import UNREAD, NetworkConditions
from jepsen_lite.faults.record import FaultRecord
from jepsen_lite.history import History, Kind
from jepsen_lite.judge import safely, titled
from jepsen_lite.sim.administrator import ROOT, Administrator
from jepsen_lite.sim.checks.history_bounds import HistoryBounds
from jepsen_lite.sim.checks.invariants import Invariants
from jepsen_lite.sim.checks.leadership import LeadershipBounds
from jepsen_lite.sim.checks.lease_trust import LeaseTrust
from jepsen_lite.sim.checks.queue_bounds import QueueBounds
from jepsen_lite.sim.checks.starvation import StarvationBound
from jepsen_lite.sim.checks.violation import Violation
from jepsen_lite.sim.clients import ClientLoad, Clients
from jepsen_lite.sim.context import SimulationContext
from jepsen_lite.sim.coverage.observers import MarkCounter
from jepsen_lite.sim.impostor import Impostor
from jepsen_lite.sim.injection.injector import SimulatedNemesis
from jepsen_lite.sim.lock_liveness import LockLiveness
from jepsen_lite.sim.net.network import SimulatedNetwork
from jepsen_lite.sim.net.traffic import TrafficEvent
from jepsen_lite.sim.node_logs import follow
from jepsen_lite.sim.nodes.cluster import Cluster
from jepsen_lite.sim.operator import Operator
from jepsen_lite.sim.plan import Plan
from jepsen_lite.sim.replicas.pool import ReplicaPool
from jepsen_lite.sim.world import World
from jepsen_lite.verdicts import Finding, Problem, Validity, texts_of
from jepsen_lite.workloads.base import Workload
from jepsen_lite.workloads.catalogue import READ_WITHOUT_MAJORITY, WORKLOADS
from jepsen_lite.workloads.removals import RemovedLeaderWorkload, RemovedLockWorkload
from jepsen_lite.workloads.rights import RightsWorkload

BOOT_S = 10.0
SET_UP_S = 30.0
LIVENESS_S = 10.0
WRONG_STATE_S = 5.0
OPERATOR_S = 60.0
LOCK_LIVENESS_S = 60.0
STANDSTILL_S = 120.0
"""Each client sends several requests, and waits for each until its own deadline."""
FINAL_READS_S = 60.0
"""A watcher reads for some seconds, and there may be many; each read has a deadline of its own."""
ALWAYS_JUDGED = ("register", "counter", "set")
COMPARE_EVERY_S = 1.0
SIMULATOR_FAILED = "the simulator itself failed"
CHECKER_FAILED = "the checker itself failed"


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
        history = plan.tuning.history
        self.invariants = Invariants(
            HistoryBounds(history.revisions_min, history.pin_s_max, lambda: self.world.now_s)
        )
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
        self.administrators = [
            Administrator(context, self.cluster, each, self.clients.hosts, self.clients.recorder)
            for each in self.workloads
            if isinstance(each, RightsWorkload)
        ]
        self.impostors = [
            Impostor(self.world, self.cluster, self.invariants.state_machines, self.clients.hosts)
            for _ in self.administrators
        ]
        self.lock_liveness = LockLiveness(self.world, self.clients, self.workloads, self._fail)
        self.leadership = LeadershipBounds(context, self.cluster, plan.tuning.tick_ms / 1000)
        self.starvation = StarvationBound(context, self.cluster, self.clients, self.leadership)
        self.lease_trust = LeaseTrust(context, self.cluster, self.clients)
        self.queues = QueueBounds(context, self.cluster, self.clients)
        user = ROOT if self.administrators else None
        self.operator = Operator(self.world, self.network, self.cluster, self._fail, user)
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
        for administrator in self.administrators:
            administrator.start()
            self._await(administrator.ready, SET_UP_S, "authentication was enabled")
        self.clients.start()
        self._await(self.clients.connected, BOOT_S, "the clients reached a leader")
        self.leadership.begin()
        self.starvation.begin()
        self.lease_trust.begin()
        self.queues.begin()
        for impostor in self.impostors:
            impostor.begin()

    def _recover(self) -> None:
        """Heal everything; the cluster must work again within its deadlines."""
        self.nemesis.heal(NetworkConditions())
        self.clients.stop_load()
        for impostor in self.impostors:
            impostor.stop()
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
        self._await(
            self.cluster.wrong_states_found,
            WRONG_STATE_S,
            "every node with a wrong state has left service",
        )
        self.cluster.switch_off_lost()
        self.operator.replace_damaged()
        self._advance(self.world.now_s + COMPARE_EVERY_S)
        self._await_operator("every node that has lost its disk was replaced")
        for administrator in self.administrators:
            administrator.stop()
            self._await(administrator.over, LIVENESS_S, "the administrator could grant a right")
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
        for administrator in self.administrators:
            administrator.kill()


def run(plan: Plan, replicas: ReplicaPool | None = None) -> Outcome:
    """Carry out a plan. If there are replicas in other processes, they apply its log as well."""
    with tempfile.TemporaryDirectory(prefix="jepsen-lite-") as directory:
        return Simulation(plan, Path(directory)).execute(replicas)

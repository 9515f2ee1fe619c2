"""What a seed decides before its run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from random import Random

from jepsen_lite.faults.kinds import NetworkConditions, Schedule
from jepsen_lite.sim.clients import ClientTuning
from jepsen_lite.sim.injection.disk_schedule import with_lost_disk
from jepsen_lite.sim.injection.schedule import draw_compactions, draw_conditions, draw_schedule
from jepsen_lite.sim.injection.strangers import draw_strangers
from jepsen_lite.sim.net.client_conditions import ClientConditions
from jepsen_lite.sim.nodes.settings import HistoryTuning, NodeTuning
from raftkv.kv.pace import STEP_UNITS

PLAIN = "anything"
"""The scenario that mixes all kinds of faults."""
SECONDS = 10.0
"""The length of most scenarios."""
SWARM = "swarm"
"""What `sim` runs by itself: no scenario, but something of each."""
OPERATIONS_PER_WORKER_AND_S = 5.0


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

    @property
    def node_names(self) -> list[str]:
        """The nodes that found the cluster."""
        return node_names(self.nodes)


def node_names(count: int) -> list[str]:
    """The names of the first nodes."""
    return [f"node-{number}" for number in range(1, count + 1)]


def draw_plan(seed: int, seconds: float = 30.0, nodes: int | None = None) -> Plan:
    """What this seed is about."""
    rng = Random(f"{seed}/plan")
    drawn = rng.choice((3, 3, 3, 5))
    nodes = nodes or drawn
    names = node_names(nodes)
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
            history=draw_history(Random(f"{seed}/history")),
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


def draw_history(rng: Random) -> HistoryTuning:
    """The bounds of the history: every other time so small that it is compacted within a run, for
    its age or for its size.
    """
    if rng.random() < 0.5:
        return HistoryTuning()
    return HistoryTuning(
        revisions_min=rng.choice((1, 5, 50)),
        age_ms_max=rng.choice((0, 2_000, 8_000)),
        bytes_max=rng.choice((1_000, 10_000, 1 << 30)),
        pin_s_max=rng.choice((2.0, 4.0)),
    )


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


def busy_plan(seed: int, purpose: str) -> tuple[Plan, Random]:
    """Three nodes under load, and nothing else."""
    plan = replace(
        draw_plan(seed, SECONDS),
        nodes=3,
        clients=3,
        workers_per_client=2,
        think_s=0.05,
        conditions=NetworkConditions(),
        clock_skew=0.0,
        schedule=(),
        founding=(),
        workloads=("register", "counter", "set"),
    )
    tuning = replace(
        plan.tuning,
        leader_lease=False,
        log_compaction_bytes=64 << 20,
        history=HistoryTuning(),
    )
    return replace(plan, tuning=tuning), Random(f"{seed}/{purpose}")

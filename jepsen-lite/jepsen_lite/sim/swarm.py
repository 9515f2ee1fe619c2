"""The default run: each seed takes the faults of one scenario and switches features, faults, sizes
and bounds on and off (swarm testing).

A scenario concentrates on one kind of fault, with the load and the settings that it was written
for. Many bugs need its faults together with another workload, another bound or another fault.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from random import Random

from jepsen_lite.faults.kinds import (
    BitFlip,
    ClockJump,
    ClockRate,
    Fault,
    Kill,
    MemberChange,
    Schedule,
    takes_effect,
)
from jepsen_lite.sim.clients import ClientTuning
from jepsen_lite.sim.deal import deal, shuffle
from jepsen_lite.sim.injection.operator_schedule import draw_operator
from jepsen_lite.sim.injection.schedule import draw_compactions, draw_conditions, draw_schedule
from jepsen_lite.sim.injection.strangers import draw_strangers
from jepsen_lite.sim.net.client_conditions import ClientConditions
from jepsen_lite.sim.nodes.settings import NodeBounds
from jepsen_lite.sim.plan import (
    PLAIN,
    SECONDS,
    SWARM,
    Plan,
    at_rate,
    draw_history,
    draw_plan,
)
from jepsen_lite.sim.scenarios import SCENARIOS
from jepsen_lite.workloads.catalogue import (
    HAS_LARGE_ROWS,
    LOOKS_AT_MANY_ROWS,
    NEEDS_QUICK_ANSWERS,
    NEEDS_STEADY_CLOCKS,
    NEEDS_USERS,
    OF_ONE_USER,
    WORKLOADS,
)
from raftkv.kv.pace import STEP_UNITS

ANOTHER_LENGTH = frozenset({"load", "slow-answers", "rights", "wrong-states", "bounded-history"})
"""Scenarios that no seed is based on: they are much longer than the others, short ones for a
workload or a bound that is drawn beside all faults, or for workloads that do not read what is
wrong.
"""
SECURED = 0.25
"""The share of seeds whose clients are users with rights, where the workloads allow it."""
COPIES: Mapping[str, int] = {
    PLAIN: 3, "relays": 3, "memberships": 3, "leaving-leaders": 2, "power-cuts": 2,
    "set-clocks": 2, "coordination": 2, "damage": 2, "emptied-disks": 3, "copied-disks": 3,
    "forgotten-nodes": 2, "snapshots-beside-readers": 3,
}  # fmt: skip
"""Scenarios that more seeds are based on, each with how many."""
UNDISTURBED = frozenset({"emptied-disks", "copied-disks", "cloned-disks"})
"""Beside other faults, the outcome of these would not be defined."""
ONCE = UNDISTURBED | {
    *("bit-rot", "damage", "forgotten-nodes", "older-programs", "removals"),
    "snapshots-beside-readers",
}
"""Scenarios that come to their point once in a run, or have many operations."""
DAMAGED = frozenset({"bit-rot", "damage"})
"""Scenarios in which a disk is damaged, which the cluster must be able to afford at that moment."""
ROUNDS = 2
ANOTHER_SEED = 1_000_000_000
"""So far are the seeds of a scenario that the rounds have from each other, and from those of
`--scenario`.
"""
STEADY = frozenset(
    {
        *("coordination", "candidates", "removals", "set-clocks", "breadth"),
        "snapshots-beside-readers",
    }
)
"""Scenarios whose clocks run at nearly the same rate."""
BUSY = ("register", "register", "register", "bank", "set", "append")
"""Workloads with many operations, one of which is always drawn."""
SELDOM = (
    *(("refusals", "watch"), ("idempotency",), ("leased-keys",)),
    *(("staleness",), ("session",), ("waiter-fence",)),
)
"""Workloads with many states of their own: each seed has the next ones of them, too."""
WATCHED = frozenset({"watch", "wide-watch"})
WAITING = frozenset(
    {
        *("lock", "fenced-lock", "removed-lock", "waiter-fence", "election", "removed-leader"),
        "lease",
    }
)
"""Workloads whose clients wait for one another, and may not be kept from it by a bound."""
SKEW_MAX, SKEW_STEADY_MAX = 0.05, 0.03
SMALL_REPLY_BYTES = 4 << 10


def draw(
    scenario: str,
    seed: int,
    workloads: tuple[str, ...] = (),
    seconds: float | None = None,
    rate: float | None = None,
) -> Plan:
    """The plan of this seed of a scenario or of the swarm; with these workloads if there are any,
    and under this load if it is given.

    `seconds` is for the swarm and the plain run: the faults of the other scenarios have moments of
    their own.
    """
    if scenario == SWARM:
        plan = draw_swarm(seed, seconds)
    elif scenario == PLAIN and seconds is not None:
        plan = draw_plan(seed, seconds)
    else:
        plan = SCENARIOS[scenario](seed)
    plan = with_workloads(plan, workloads) if workloads else plan
    return plan if rate is None else at_rate(plan, rate)


def draw_swarm(seed: int, seconds: float | None = None) -> Plan:
    """The plan of this seed. `seconds`: of faults; by default `ROUNDS` lengths of its scenario, or
    one, if its faults may come only once.
    """
    base = base_of(seed)
    if base == PLAIN:
        plan = draw_plan(seed, ROUNDS * SECONDS if seconds is None else seconds)
    else:
        plan = _in_rounds(base, seed, seconds)
    plan = replace(plan, scenario=SWARM, base=base)
    steady = _steady(plan)
    plan = _with_other_load(plan, _rng(seed, "load"))
    plan = _with_workloads(plan, _rng(seed, "workloads"), steady=steady)
    plan = _with_faults(plan, _rng(seed, "faults"), steady=steady)
    plan = _with_clocks(plan, _rng(seed, "clocks"), steady=steady)
    plan = _with_node_tuning(plan, _rng(seed, "nodes"))
    return _with_clients(plan, _rng(seed, "clients"))


def _in_rounds(base: str, seed: int, seconds: float | None) -> Plan:
    """The scenario's faults, and then those of other seeds of it that are for as many nodes."""
    _, number = _card_of(seed)
    rounds = (SCENARIOS[base](number + ANOTHER_SEED * each) for each in itertools.count(1))
    plan = replace(next(rounds), seed=seed)
    length_s, once = plan.seconds, base in ONCE
    if seconds is None:
        seconds = length_s if once else ROUNDS * length_s
    schedule = plan.schedule
    as_large = (other.schedule for other in rounds if other.nodes == plan.nodes)
    for number in range(1, 1 if once else math.ceil(seconds / length_s)):
        begin_s = number * length_s
        schedule += tuple(replace(each, at_s=each.at_s + begin_s) for each in next(as_large))
    return replace(
        plan, seconds=seconds, schedule=tuple(each for each in schedule if each.at_s < seconds)
    )


def base_of(seed: int) -> str:
    """The scenario that this seed is based on: of as many successive seeds as there are cards each
    scenario gets its share.
    """
    base, _ = _card_of(seed)
    return base


def _card_of(seed: int) -> tuple[str, int]:
    """The scenario, and how many earlier seeds are based on it: it deals faults over its own seeds,
    which are successive here, too.
    """
    deck = [
        name for name in SCENARIOS if name not in ANOTHER_LENGTH for _ in range(COPIES.get(name, 1))
    ]
    time, place = divmod(seed, len(deck))
    shuffled = shuffle(deck, time, "swarm/deck")
    base = shuffled[place]
    return base, time * deck.count(base) + shuffled[:place].count(base)


def with_workloads(plan: Plan, workloads: tuple[str, ...]) -> Plan:
    """The same with these workloads, and with the clocks, replies and connections they need."""
    plan = replace(plan, workloads=workloads, workloads_asked=True)
    if NEEDS_STEADY_CLOCKS & set(workloads):
        plan = replace(
            plan,
            clock_skew=min(plan.clock_skew, SKEW_STEADY_MAX),
            schedule=tuple(fault for fault in plan.schedule if not _sets_a_rate(fault)),
        )
    if HAS_LARGE_ROWS & set(workloads):
        bounds = replace(plan.tuning.bounds, reply_bytes_max=NodeBounds().reply_bytes_max)
        plan = replace(plan, tuning=replace(plan.tuning, bounds=bounds))
    if LOOKS_AT_MANY_ROWS & set(workloads):
        plan = replace(plan, tuning=replace(plan.tuning, step_units=STEP_UNITS))
    if NEEDS_USERS & set(workloads):
        plan = replace(plan, tuning=replace(plan.tuning, older_programs=False))
    if NEEDS_QUICK_ANSWERS & set(workloads):
        plan = replace(plan, client_conditions=ClientConditions())
    return plan


def _rng(seed: int, purpose: str) -> Random:
    return Random(f"{seed}/swarm/{purpose}")


def _sets_a_rate(fault: Fault) -> bool:
    return isinstance(fault, ClockJump | ClockRate)


def _steady(plan: Plan) -> bool:
    """Whether clocks run at nearly the same rate, so that leases are promised."""
    if plan.base in STEADY or plan.tuning.leader_lease:
        return True
    if any(map(_sets_a_rate, plan.schedule)):
        return False
    return _rng(plan.seed, "steady").random() < 0.6


def _with_other_load(plan: Plan, rng: Random) -> Plan:
    """More workers that ask less often: as many wait for a node that is cut off, and no fewer
    operations are done where all is well.
    """
    if rng.random() < 0.3:
        plan = replace(
            plan,
            think_s=rng.choice((0.05, 0.1, 0.2)),
            clients=rng.choice((2, 3, 4)),
            workers_per_client=rng.choice((2, 3, 4)),
        )
    elif plan.base != PLAIN:
        plan = replace(
            plan, think_s=2 * plan.think_s, workers_per_client=2 * plan.workers_per_client
        )
    if rng.random() < 0.3:
        plan = replace(plan, session_ttl_ms=rng.choice((1_500, 5_000, 60_000)))
    return plan


def _with_workloads(plan: Plan, rng: Random, *, steady: bool) -> Plan:
    """Those of the scenario and some others, or others altogether."""
    possible = [
        name
        for name in WORKLOADS
        if name not in NEEDS_USERS and (steady or name not in NEEDS_STEADY_CLOCKS)
    ]
    keeps = plan.base in STEADY or rng.random() < 0.5
    own = plan.workloads if keeps else (rng.choice(BUSY),)
    others = [name for name in possible if name not in own]
    more = rng.sample(others, rng.randint(0, 2) if keeps else rng.randint(2, 3))
    drawn = (*own, *more)
    (seldom,) = deal(SELDOM, plan.seed, "swarm/seldom workloads")
    drawn += tuple(name for name in seldom if name in possible and name not in drawn)
    may_have_users = not (plan.tuning.older_programs or OF_ONE_USER & set(drawn))
    if may_have_users and _rng(plan.seed, "users").random() < SECURED:
        drawn += ("rights",)
    return replace(plan, workloads=drawn)


def _with_faults(plan: Plan, rng: Random, *, steady: bool) -> Plan:
    """Some faults of any kind among the scenario's own, and a poor network; one fault at least is
    certain to take effect.
    """
    names = plan.node_names
    schedule: Schedule = plan.schedule
    if rng.random() < 0.3:
        schedule += draw_compactions(rng, plan.seconds)
    if plan.base not in (PLAIN, *UNDISTURBED):
        if rng.random() < 0.35:
            share = rng.choice((0.2, 0.5))
            drawn = draw_schedule(rng, names, plan.seconds, steady_clocks=steady)
            schedule += tuple(
                fault
                for fault in drawn
                if rng.random() < share
                and not (plan.base in DAMAGED and isinstance(fault, BitFlip | MemberChange))
            )
        if rng.random() < 0.15:
            schedule += draw_strangers(rng, names, plan.seconds)
        if rng.random() < 0.15:
            plan = replace(plan, conditions=draw_conditions(rng))
        operator = _rng(plan.seed, "operator")
        if operator.random() < 0.25:
            schedule += draw_operator(operator, names, plan.seconds)
    if not any(map(takes_effect, schedule)):
        schedule += (Kill(round(plan.seconds - 0.5, 3), 1.0, (rng.choice(names),), power=True),)
    return replace(plan, schedule=schedule)


def _with_clocks(plan: Plan, rng: Random, *, steady: bool) -> Plan:
    if plan.base == "set-clocks":
        return plan
    leader_lease = plan.tuning.leader_lease or (steady and rng.random() < 0.3)
    return replace(
        plan,
        clock_skew=rng.choice((0.0, SKEW_STEADY_MAX if steady else SKEW_MAX)),
        tuning=replace(plan.tuning, leader_lease=leader_lease),
    )


def _with_node_tuning(plan: Plan, rng: Random) -> Plan:
    tuning = plan.tuning
    if rng.random() < 0.3:
        # Never longer than the scenario's, whose faults may need snapshots.
        log_bytes = min(rng.choice((2 << 10, 4 << 10, 32 << 10)), tuning.log_compaction_bytes)
        retained_bytes = log_bytes // rng.choice((2, 4, 8))
        tuning = replace(tuning, log_compaction_bytes=log_bytes, log_retained_bytes=retained_bytes)

    def bound(tiny: tuple[int, ...], usual: int) -> int:
        return rng.choice(tiny) if rng.random() < 0.25 else usual

    usual = tuning.bounds
    bounds = NodeBounds(
        submissions_in_flight_max=bound((16,), usual.submissions_in_flight_max),
        requests_per_client_max=bound((8, 16), usual.requests_per_client_max),
        watch_buffer_bytes_max=bound((1 << 10,), usual.watch_buffer_bytes_max),
        reply_bytes_max=bound((SMALL_REPLY_BYTES,), usual.reply_bytes_max),
        apply_bytes_max=bound((100, 1_000), usual.apply_bytes_max),
        entry_bytes_max=bound((100, 1_000), usual.entry_bytes_max),
        in_flight_bytes_max=bound((200, 2_000), usual.in_flight_bytes_max),
    )
    if HAS_LARGE_ROWS & set(plan.workloads):
        bounds = replace(bounds, reply_bytes_max=usual.reply_bytes_max)
    smallest = _rng(plan.seed, "smallest bounds")
    if not WAITING & set(plan.workloads):
        if smallest.random() < 0.3:
            bounds = replace(bounds, submissions_in_flight_max=smallest.choice((4, 8)))
        if WATCHED & set(plan.workloads):
            bounds = replace(bounds, watches_max=smallest.choice((2, usual.watches_max)))
    # Small steps of apply, between which clients and watches come and go.
    step_units = _rng(plan.seed, "steps").choice((4, 16, STEP_UNITS))
    if LOOKS_AT_MANY_ROWS & set(plan.workloads):
        step_units = STEP_UNITS
    history = draw_history(_rng(plan.seed, "history"))
    return replace(
        plan, tuning=replace(tuning, bounds=bounds, step_units=step_units, history=history)
    )


def _with_clients(plan: Plan, rng: Random) -> Plan:
    """Half of the clients know one node, connections differ, and buffers and values have sizes."""
    known = [f"node-{1 + rng.randrange(plan.nodes)}" for _ in range(plan.clients)]
    knowing_one = range(plan.clients - (plan.clients + rng.randrange(2)) // 2, plan.clients)
    # A node that has lost its disk before it was founded serves nobody.
    known_nodes = tuple(
        node if client in knowing_one and not plan.founding else ""
        for client, node in enumerate(known)
    )
    large = plan.tuning.bounds.reply_bytes_max > SMALL_REPLY_BYTES and rng.random() < 0.3
    usual = plan.client_tuning

    def bound(tiny: tuple[int, ...], usual: int) -> int:
        return rng.choice(tiny) if rng.random() < 0.25 else usual

    levels = _rng(plan.seed, "read levels")
    lease_readers = [client for client in range(plan.clients) if levels.random() < 0.5]
    tuning = ClientTuning(
        known_nodes=known_nodes,
        lease_readers=tuple(lease_readers) if plan.tuning.leader_lease else (),
        padding_max=rng.choice((100, 2_000, 20_000)) if large else 0,
        page_keys_max=bound((2, 5), usual.page_keys_max),
        batches_in_flight_max=bound((1, 2), usual.batches_in_flight_max),
        batch_operations_max=bound((1, 2), usual.batch_operations_max),
        watch_buffer_bytes_max=bound((100, 1_000), usual.watch_buffer_bytes_max),
    )
    slow = rng.random() < 0.35 and not NEEDS_QUICK_ANSWERS & set(plan.workloads)
    conditions = ClientConditions(
        delay_s_max=rng.choice((0.002, 0.02, 0.2)) if slow else 0.0,
        slow_answers=rng.choice((0.0, 0.1, 0.5)) if slow else 0.0,
        slow_answer_s_max=rng.choice((0.05, 0.3, 1.0)),
        lingering=rng.random() < 0.5,
    )
    return replace(plan, client_tuning=tuning, client_conditions=conditions)

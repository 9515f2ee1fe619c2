"""Scenarios of locks, leases, watches and reads: what clients use beside keys."""

from __future__ import annotations

from dataclasses import replace

from jepsen_lite.faults.kinds import (
    LEADER,
    TRIGGERING_NODE,
    Compaction,
    Fault,
    Isolate,
    Kill,
    Pause,
    SlowDisk,
    SlowLink,
    Transfer,
    Trigger,
    TriggeredFault,
)
from jepsen_lite.sim.clients import ClientTuning
from jepsen_lite.sim.deal import deal
from jepsen_lite.sim.net.client_conditions import ClientConditions
from jepsen_lite.sim.nodes.settings import HistoryTuning
from jepsen_lite.sim.plan import Plan, busy_plan

BREADTH = (
    *("transactions", "ranges", "idempotency", "leased-keys", "waiter-fence", "wide-watch"),
    *("session", "staleness"),
)
"""Workloads of what no other scenario uses."""


def coordination(seed: int) -> Plan:
    """Locks, fences, leases and watches, while leaders stand still, die or are cut off together
    with their clients.
    """
    plan, rng = busy_plan(seed, "coordination")
    names = plan.node_names
    faults: list[Fault] = []
    for at_s in range(1, 11, 2):
        moment_s, for_s = at_s + rng.random(), rng.uniform(0.6, 3.0)
        kind = rng.choice((Kill, Pause, Isolate, Isolate))
        if kind is Kill:
            faults.append(Kill(moment_s, for_s, (LEADER,), power=True))
        elif kind is Pause:
            faults.append(Pause(moment_s, for_s, LEADER))
        else:
            victim = rng.choice((LEADER, *names))
            faults.append(Isolate(moment_s, for_s, victim, True, True, clients_too=True))
    return replace(
        plan,
        seconds=14.0,
        session_ttl_ms=60_000,
        schedule=tuple(faults),
        workloads=("lock", "fenced-lock", "lease"),
    )


def candidates(seed: int) -> Plan:
    """Elections and locks, under the faults of `coordination`."""
    return replace(coordination(seed), workloads=("election", "lock"))


def removals(seed: int) -> Plan:
    """An operator removes the keys and leases of holders: first while all is well, then beside a
    fault, then soon after it.
    """
    plan, rng = busy_plan(seed, "removals")
    at_s, for_s = 8.0 + rng.random(), rng.uniform(0.6, 2.0)
    fault = rng.choice(
        (
            Kill(at_s, for_s, ("node-1",), power=True),
            Pause(at_s, for_s, "node-1"),
            Isolate(at_s, for_s, "node-1", True, True, clients_too=True),
        )
    )
    return replace(
        plan,
        seconds=12.0,
        session_ttl_ms=60_000,
        schedule=(fault,),
        workloads=("removed-lock", "removed-leader"),
    )


def compactions(seed: int) -> Plan:
    """History is forgotten while watchers are away and nodes come and go."""
    plan, rng = busy_plan(seed, "compactions")
    names = plan.node_names
    faults: list[Fault] = []
    for at_s in range(1, 10):
        faults.append(Compaction(at_s + rng.random(), 0.0))
        if rng.random() < 0.4:
            victim = (rng.choice((LEADER, *names)),)
            faults.append(Kill(at_s + rng.random(), rng.uniform(0.1, 1.0), victim, power=False))
    return replace(plan, schedule=tuple(faults), workloads=("watch",))


def bounded_history(seed: int) -> Plan:
    """The leader compacts history all the time, while clients scan in pages and watchers catch up,
    and leaders die, stand still or hand over.
    """
    plan, rng = busy_plan(seed, "bounded history")
    faults: list[Fault] = []
    for at_s in (2.5, 5.0, 7.5):
        moment_s, for_s = at_s + rng.random(), rng.uniform(0.3, 1.5)
        match rng.choice(("kill", "pause", "isolate", "transfer")):
            case "kill":
                faults.append(Kill(moment_s, for_s, (LEADER,), power=True))
            case "pause":
                faults.append(Pause(moment_s, for_s, rng.choice(plan.node_names)))
            case "isolate":
                cut_off = rng.choice(plan.node_names)
                faults.append(Isolate(moment_s, for_s, cut_off, True, True, clients_too=False))
            case _:
                faults.append(Transfer(moment_s, 0.0, rng.choice(plan.node_names)))
    history = HistoryTuning(
        revisions_min=rng.choice((5, 20)),
        age_ms_max=rng.choice((0, 1_000)),
        bytes_max=rng.choice((1_000, 5_000)),
        pin_s_max=4.0,
    )
    return replace(
        plan,
        schedule=tuple(faults),
        workloads=("queue", "watch"),
        client_tuning=replace(plan.client_tuning, page_keys_max=3),
        tuning=replace(plan.tuning, history=history),
    )


def rights(seed: int) -> Plan:
    """Rights are granted and withdrawn while nodes lag behind the leader, and take the requests of
    their clients; and while nodes stand still or are cut off, and leaders die or hand over.
    """
    plan, rng = busy_plan(seed, "rights")
    names = plan.node_names
    faults: list[Fault] = []
    for at_s in (0.5, 2.5, 4.5, 6.5, 8.5):
        behind, delay_s = rng.choice(names), rng.uniform(0.2, 0.5)
        faults += [SlowLink(at_s, 1.9, each, behind, delay_s) for each in names if each != behind]
        moment_s, for_s = at_s + rng.random(), rng.uniform(0.3, 1.0)
        match rng.choice(("kill", "pause", "isolate", "transfer", "nothing", "nothing")):
            case "kill":
                faults.append(Kill(moment_s, for_s, (LEADER,), power=True))
            case "pause":
                faults.append(Pause(moment_s, for_s, rng.choice(names)))
            case "isolate":
                cut_off = rng.choice(names)
                faults.append(Isolate(moment_s, for_s, cut_off, True, True, clients_too=False))
            case "transfer":
                faults.append(Transfer(moment_s, 0.0, rng.choice(names)))
    return replace(
        plan,
        schedule=tuple(faults),
        workloads=("rights",),
        workers_per_client=4,
        client_tuning=ClientTuning(known_nodes=tuple(names)),
        tuning=replace(plan.tuning, older_programs=False),
    )


def slow_answers(seed: int) -> Plan:
    """Answers are slow: those of nodes to one client, those of a leader to its followers, or theirs
    to it. Each client stays at one node, and nodes are cut off while answers are on their way. The
    last ten seconds are quiet, so that each client must be served again.
    """
    plan, rng = busy_plan(seed, "slow answers")
    names = plan.node_names
    faults: list[Fault] = []
    slow_ones = rng.sample(("client", "client", "leader", "followers"), 4)
    for at_s, slow in zip((1.0, 4.5, 8.0, 11.5), slow_ones, strict=True):
        leader = rng.choice(names[1:])
        others = [name for name in names if name != leader]
        moment_s, for_s = at_s + rng.uniform(0.6, 1.2), rng.uniform(2.4, 2.8)
        victim = LEADER if slow == "followers" else names[0]
        ways: list[tuple[str, str]] = {
            "client": [],
            "leader": [(leader, each) for each in others],
            "followers": [(each, leader) for each in others],
        }[slow]
        delay_s = rng.choice((0.2, 0.4))
        faults += [
            Transfer(at_s, 0.0, leader),
            *(SlowLink(at_s + 0.2, 3.0, *way, delay_s) for way in ways),
            Isolate(moment_s, for_s, victim, True, True, clients_too=True),
        ]
    return replace(
        plan,
        seconds=24.0,
        session_ttl_ms=60_000,
        schedule=tuple(faults),
        workers_per_client=3,
        workloads=("lock", "staleness"),
        client_tuning=ClientTuning(known_nodes=tuple(names)),
        client_conditions=ClientConditions(
            slow_answers=0.6, slow_answer_s_max=0.5, slow_clients=("client-1",)
        ),
        tuning=replace(plan.tuning, leader_lease=rng.random() < 0.5),
    )


def breadth(seed: int) -> Plan:
    """What is seldom used: two of the workloads of `BREADTH`, with short logs and compactions, and
    with clients that know one node, so that followers answer.
    """
    plan, rng = busy_plan(seed, "breadth")
    faults: list[Fault] = []
    for at_s in range(1, 12, 2):
        moment_s, for_s = at_s + rng.random(), rng.uniform(0.3, 2.0)
        victim = rng.choice((LEADER, *plan.node_names))
        kind = rng.choice((Kill, Kill, Pause, Isolate, Isolate, Compaction))
        if kind is Kill:
            faults.append(Kill(moment_s, for_s, (victim,), power=True))
        elif kind is Pause:
            faults.append(Pause(moment_s, for_s, victim))
        elif kind is Isolate:
            faults.append(Isolate(moment_s, for_s, victim, True, True, rng.random() < 0.5))
        else:
            faults.append(Compaction(moment_s, 0.0))
    return replace(
        plan,
        seconds=14.0,
        # Several, as a write at a node that is cut off holds its worker up.
        workers_per_client=4,
        think_s=0.1,
        session_ttl_ms=60_000,
        tuning=replace(
            plan.tuning, log_compaction_bytes=32 << 10, log_retained_bytes=rng.choice((2, 8)) << 10
        ),
        client_tuning=ClientTuning(
            known_nodes=("", *rng.sample(plan.node_names, 2)), page_keys_max=rng.choice((3, 1_000))
        ),
        schedule=tuple(faults),
        workloads=deal(BREADTH, seed, "breadth workloads", count=2),
    )


def snapshots_beside_readers(seed: int) -> Plan:
    """Each client stays at one node. Nodes are cut off from the others until they need a snapshot,
    while their clients watch, wait for locks and read. Something else happens during the transfer
    or the installation: a crash, an election, a removal of old versions, or a slow disk.
    """
    plan, rng = busy_plan(seed, "snapshots beside readers")
    names = plan.node_names
    faults: list[Fault] = []
    for at_s in range(1, 13, 2):
        victim, others = names[0], names[1:]
        if rng.random() < 0.5:
            victim, others = names[1], [names[0], *names[2:]]
        begin_s, leader = at_s + 0.2 * rng.random(), rng.choice(others)
        # A short cut ends before those that wait for a lock at the node have given up.
        for_s = rng.choice((0.2, 0.3, 0.8, 1.2))
        healed_s = begin_s + for_s
        faults += [
            Transfer(begin_s - 0.4, 0.0, leader),
            Isolate(begin_s, for_s, victim, True, True, clients_too=False),
        ]
        soon_s = rng.choice((0.0, 0.0, 0.001, 0.003))
        match rng.choice(("receiver", "sender", "sender", "leader", "transfer", "compaction", "")):
            case "receiver":
                crash = Kill(soon_s, 0.2, (TRIGGERING_NODE,), power=rng.random() < 0.7)
                faults.append(TriggeredFault(begin_s, 2.0, Trigger.INSTALLING, 1, crash))
            case "sender":
                moment_s = healed_s + rng.uniform(0.0, 0.3)
                faults.append(Kill(moment_s, 0.5, (leader,), power=True))
            case "leader":
                crash = Kill(soon_s, 0.5, (leader,), power=True)
                slow = SlowDisk(healed_s - 0.05, 2.0, (victim,), 1.0)
                faults += [slow, TriggeredFault(begin_s, 2.0, Trigger.INSTALLING, 1, crash)]
            case "transfer":
                other = next(name for name in others if name != leader)
                faults += [
                    SlowDisk(healed_s - 0.05, 1.0, (victim,), 0.3),
                    Transfer(healed_s + rng.uniform(0.05, 0.3), 0.0, other),
                ]
            case "compaction":
                faults += [Compaction(healed_s + 0.05 * number, 0.0) for number in range(4)]
    tuning = replace(
        plan.tuning,
        log_compaction_bytes=2 << 10,
        log_retained_bytes=512,
        step_units=4,
    )
    return replace(
        plan,
        seconds=14.0,
        workers_per_client=5,
        session_ttl_ms=60_000,
        tuning=tuning,
        client_tuning=ClientTuning(known_nodes=tuple(names)),
        schedule=tuple(faults),
        workloads=("set", "lock", "watch", "ranges", rng.choice(("session", "staleness"))),
    )

"""Searches for planted bugs, and for false alarms where none was planted."""

from __future__ import annotations

import enum
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from jepsen_lite.mutants.catalogue import MUTANTS
from jepsen_lite.mutants.mutant import Mutant
from jepsen_lite.sim.node_logs import configure
from jepsen_lite.sim.plan import Plan
from jepsen_lite.sim.reduction import shrunk
from jepsen_lite.sim.replicas.pool import ReplicaPool
from jepsen_lite.sim.report import describe_failure
from jepsen_lite.sim.run import CHECKER_FAILED, SIMULATOR_FAILED, run
from jepsen_lite.sim.scenarios import SCENARIOS
from jepsen_lite.sim.swarm import draw_swarm

UNFIT = re.compile(
    rf"{SIMULATOR_FAILED}|{CHECKER_FAILED}|\b(Type|Attribute|Name|UnboundLocal)Error\b"
)
"""Python's own complaints: of a patch that does not fit what it was written for."""


class HuntVerdict(enum.StrEnum):
    """How a hunt ended."""

    CAUGHT = "caught"
    NOTICED = "noticed"  # by something else than what should give it away
    MISSED = "MISSED"
    BROKEN = "broken"  # the mutant is none: it does not do what its story says
    CLEAN = "clean"  # no bug was planted, and none was found
    ALARM = "ALARM"  # no bug was planted


@dataclass(frozen=True, slots=True)
class Hunt:
    """What became of one hunt. `problem` is what gave the bug away; of a mutant that was missed,
    what was noticed instead.
    """

    verdict: HuntVerdict
    mutant: str
    """"": the clean system."""
    scenario: str
    seed: int
    problem: str
    runs: int
    wall_s: float
    report: str = ""
    """Of a false alarm: the description that `sim` prints of a failing seed."""


Hunting: TypeAlias = "partial[Hunt]"


def hunt(mutant: Mutant) -> Hunt:
    """Run a mutant's set until a problem matches its `caught_by`."""
    configure(show=False)
    started_s, runs, instead = time.perf_counter(), 0, ""

    def ended(verdict: HuntVerdict, scenario: str, seed: int, problem: str) -> Hunt:
        wall_s = time.perf_counter() - started_s
        return Hunt(verdict, mutant.name, scenario, seed, problem, runs, wall_s)

    for seed in mutant.seeds:
        for scenario in mutant.scenarios:
            problems = _problems(mutant, SCENARIOS[scenario](seed))
            runs += 1
            if problems:
                verdict, problem = _judged(mutant, problems)
                if verdict is not HuntVerdict.NOTICED:
                    return ended(verdict, scenario, seed, problem)
                instead = instead or problem
    return ended(HuntVerdict.MISSED, "", 0, instead)


def hunt_by_default(name: str, seeds: range) -> Hunt:
    """Run the seeds as `jepsen-lite sim` runs them, until there is a problem of any kind."""
    configure(show=False)
    mutant, started_s = MUTANTS[name], time.perf_counter()
    for runs, seed in enumerate(seeds, 1):
        plan = draw_swarm(seed)
        problems = _problems(mutant, plan)
        if problems:
            verdict, problem = _judged(mutant, problems)
            wall_s = time.perf_counter() - started_s
            return Hunt(verdict, name, plan.base, seed, problem, runs, wall_s)
    wall_s = time.perf_counter() - started_s
    return Hunt(HuntVerdict.MISSED, name, "", 0, "", len(seeds), wall_s)


def _judged(mutant: Mutant, problems: list[str]) -> tuple[HuntVerdict, str]:
    for verdict, pattern in ((HuntVerdict.BROKEN, UNFIT), (HuntVerdict.CAUGHT, mutant.caught_by)):
        for problem in problems:
            if re.search(pattern, problem):
                return verdict, problem
    return HuntVerdict.NOTICED, problems[0]


def _problems(mutant: Mutant, plan: Plan) -> list[str]:
    try:
        with mutant.planted(), ExitStack() as stack:
            replicas = None
            if mutant.in_replicas:
                replicas = stack.enter_context(ReplicaPool(mutant.reference))
            outcome = run(plan, replicas)
    except Exception as error:  # noqa: BLE001 - it can't even be planted, or nothing boots with it
        return [f"{SIMULATOR_FAILED}: {type(error).__name__}: {error}"]
    return list(map(_on_one_line, outcome.problems))


def hunt_clean(scenario: str, seeds: range) -> Hunt:
    """Run the system as it is: whatever is noticed is a false alarm, or a bug of its own."""
    configure(show=False)
    started_s = time.perf_counter()
    for runs, seed in enumerate(seeds, 1):
        outcome = run(SCENARIOS[scenario](seed))
        if outcome.problems:
            wall_s = time.perf_counter() - started_s
            problem = _on_one_line(outcome.problems[0])
            report = describe_failure(shrunk(outcome))
            return Hunt(HuntVerdict.ALARM, "", scenario, seed, problem, runs, wall_s, report)
    wall_s = time.perf_counter() - started_s
    return Hunt(HuntVerdict.CLEAN, "", scenario, 0, "", len(seeds), wall_s)


def hunts(names: Iterable[str]) -> list[Hunting]:
    """For these mutants, and for the clean system under whatever may expose them."""
    chosen = [MUTANTS[name] for name in names]
    longest: dict[str, range] = {}
    for mutant in chosen:
        for scenario in mutant.scenarios:
            known = longest.get(scenario, range(0))
            longest[scenario] = max(known, mutant.seeds, key=len)
    clean = [partial(hunt_clean, *each) for each in longest.items()]
    return [*clean, *(partial(_hunt_named, mutant.name) for mutant in chosen)]


def hunts_by_default(names: Iterable[str], seeds: range) -> list[Hunting]:
    """For these mutants, by the seeds of the default run."""
    return [partial(hunt_by_default, name, seeds) for name in names]


def _hunt_named(name: str) -> Hunt:
    """What a mutant is made of is no value that another process could be sent."""
    return hunt(MUTANTS[name])


def carry_out(asked: Iterable[Hunting], jobs: int) -> Iterator[Hunt]:
    """All of them, as they end; one job at a time needs no other process."""
    if jobs == 1:
        yield from (each() for each in asked)
        return
    with ProcessPoolExecutor(jobs) as pool:
        for ended in as_completed([pool.submit(each) for each in asked]):
            yield ended.result()


def _on_one_line(problem: str) -> str:
    return " ".join(problem.split())

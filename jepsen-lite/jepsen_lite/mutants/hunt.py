"""Looks for planted bugs, and for bugs where none was planted. Prints nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

from jepsen_lite.mutants.catalogue import MUTANTS
from jepsen_lite.sim.node_logs import configure
from jepsen_lite.sim.report import describe_failure
from jepsen_lite.sim.run import Outcome, run
from jepsen_lite.sim.scenarios import SCENARIOS
from jepsen_lite.sim.shrink import shrunk


@dataclass(frozen=True, slots=True)
class Hunt:
    """How one hunt ended. `problem` is what gave the bug away, "" if nothing did."""

    mutant: str
    """"": the clean system."""
    scenario: str
    seed: int
    problem: str
    runs: int
    wall_s: float
    report: str = ""
    """Of a false alarm: what a failing seed of `sim` is told in."""


def hunt(name: str) -> Hunt:
    """Run a mutant's set until something is noticed."""
    configure(show=False)
    mutant = MUTANTS[name]
    started_s, runs = time.perf_counter(), 0
    for seed in mutant.seeds:
        for scenario in mutant.scenarios:
            with mutant.planted():
                outcome = run(SCENARIOS[scenario](seed))
            runs += 1
            if outcome.problems:
                wall_s = time.perf_counter() - started_s
                return Hunt(name, scenario, seed, _told(outcome), runs, wall_s)
    return Hunt(name, "", 0, "", runs, time.perf_counter() - started_s)


def hunt_clean(scenario: str, seeds: range) -> Hunt:
    """Run the system as it is: whatever is noticed is a false alarm, or a bug of its own."""
    configure(show=False)
    started_s = time.perf_counter()
    for seed in seeds:
        outcome = run(SCENARIOS[scenario](seed))
        if outcome.problems:
            wall_s = time.perf_counter() - started_s
            told = describe_failure(shrunk(outcome))
            return Hunt("", scenario, seed, _told(outcome), seed - seeds.start + 1, wall_s, told)
    return Hunt("", scenario, 0, "", len(seeds), time.perf_counter() - started_s)


def hunt_all(names: Iterable[str], jobs: int) -> Iterator[Hunt]:
    """All of these mutants, and the clean system on whatever may expose them, as they end."""
    chosen = [MUTANTS[name] for name in names]
    longest: dict[str, range] = {}
    for mutant in chosen:
        for scenario in mutant.scenarios:
            known = longest.get(scenario, range(0))
            longest[scenario] = max(known, mutant.seeds, key=len)
    with ProcessPoolExecutor(jobs) as pool:
        clean = [pool.submit(hunt_clean, *each) for each in longest.items()]
        planted = [pool.submit(hunt, mutant.name) for mutant in chosen]
        for ended in as_completed([*clean, *planted]):
            yield ended.result()


def _told(outcome: Outcome) -> str:
    return " ".join(outcome.problems[0].split())

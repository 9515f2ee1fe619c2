"""`jepsen-lite sim`: the deterministic simulator, once per seed."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from jepsen_lite.commands.branch_report import BranchReport
from jepsen_lite.commands.past_runs import STORE, StoreOption
from jepsen_lite.verdicts import EXIT_CODES, Validity

if TYPE_CHECKING:
    from jepsen_lite.sim.plan import Plan
    from jepsen_lite.sim.replicas.pool import ReplicaPool
    from jepsen_lite.sim.run import Outcome

COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


def parse_seeds(text: str) -> range:
    """`A..B`, both included, or one seed."""
    first, dots, last = text.partition("..")
    try:
        seeds = range(int(first), int(last if dots else first) + 1)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no range of seeds; write 1..100, or 7") from error
    if not seeds:
        raise typer.BadParameter(f"{text!r} is empty; write the smaller seed first")
    return seeds


def sim(
    seeds: Annotated[str, typer.Option(help="A..B, or one seed")],
    scenario: Annotated[
        str | None,
        typer.Option(
            help="concentrate on one kind of fault; `jepsen-lite list` has the names; default:"
            " another one for each seed, mixed with much else"
        ),
    ] = None,
    workload: Annotated[
        str | None, typer.Option(help="names with commas between them; default: as drawn")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            help="simulated seconds with faults, per seed; default: 10 to 28, as its scenario needs"
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, help="client operations per simulated second; default: as drawn"),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="processes to run seeds in")] = 1,
    minutes: Annotated[
        float | None, typer.Option(help="begin no more seeds after so many minutes")
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="write each seed's history here")] = None,
    log: Annotated[bool, typer.Option("--log", help="show what the nodes log")] = False,
    reduce: Annotated[bool, typer.Option(help="look for fewer faults that fail too")] = True,
    marks: Annotated[
        bool, typer.Option("--marks", help="list the states that were reached, and all others")
    ] = False,
    branches: Annotated[
        bool,
        typer.Option("--branches", help="measure raftkv's branch coverage; takes far longer"),
    ] = False,
    store: StoreOption = STORE,
) -> None:
    """Run the store in a deterministic simulator, once per seed; stops at the first failure, of
    which a report is written.
    """
    # Imported late: `jepsen-lite --help` must not load the whole store.
    from jepsen_lite.commands.show import report_of
    from jepsen_lite.sim.artifacts import keep as keep_run
    from jepsen_lite.sim.coverage.totals import MarkTotals
    from jepsen_lite.sim.node_logs import configure
    from jepsen_lite.sim.reduction import shrunk
    from jepsen_lite.sim.replicas.pool import ReplicaPool, describe_replicas
    from jepsen_lite.sim.report import describe_failure, describe_pass

    chosen = parse_seeds(seeds)
    plan_of = _plans(scenario, workload, seconds, rate)
    operations: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    totals = MarkTotals()
    vacuous: list[str] = []
    members_changed = stood_still = 0
    simulated_s, started_s = 0.0, time.perf_counter()
    until_s = math.inf if minutes is None else started_s + 60 * minutes
    done = chosen[:0]
    branch_report = BranchReport(store) if branches else None
    with (
        branch_report or contextlib.nullcontext(),
        Progress(*COLUMNS, console=Console(stderr=True), transient=True) as progress,
    ):
        data = None if branch_report is None else branch_report.data
        outcome_of = partial(_outcome, plan_of, data)
        bar = progress.add_task("seeds", total=len(chosen))
        for outcome in _outcomes(chosen, outcome_of, jobs, until_s, log):
            done = range(chosen.start, outcome.plan.seed + 1)
            progress.update(bar, completed=len(done))
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                lines = outcome.history.to_lines()
                (keep / f"{outcome.plan.seed}.jsonl").write_text(lines)
            if outcome.problems:
                configure(show=False)  # the logs of the reduction's runs are of no use
                with ReplicaPool() as replicas:
                    described = shrunk(outcome, replicas=replicas) if reduce else outcome
                typer.echo(describe_failure(described))
                typer.echo(f"report: {report_of(keep_run(described, store))}")
                raise typer.Exit(EXIT_CODES[Validity.INVALID])
            simulated_s += outcome.simulated_s
            operations += outcome.operations
            faults += outcome.faults
            members_changed += outcome.members_changed
            stood_still += not outcome.served
            totals.add(outcome.marks)
            if outcome.vacuous:
                vacuous.append(f"seed {outcome.plan.seed}: {outcome.vacuous}")
    if not done:
        typer.echo("vacuous: no seed was run")
        raise typer.Exit(EXIT_CODES[Validity.VACUOUS])
    wall_s = time.perf_counter() - started_s
    typer.echo(
        describe_pass(done, operations, faults, members_changed, stood_still, simulated_s, wall_s)
    )
    typer.echo(describe_replicas(done))
    typer.echo(totals.table() if marks else totals.short())
    if branch_report is not None:
        typer.echo(branch_report.text)
    if all(option is None for option in (scenario, workload, seconds, rate)):
        vacuous += totals.shortfall
    for each in vacuous:
        typer.echo(f"vacuous: {each}")
    if vacuous:
        raise typer.Exit(EXIT_CODES[Validity.VACUOUS])


def _outcomes(
    seeds: range, outcome_of: Callable[[int], Outcome], jobs: int, until_s: float, log: bool
) -> Iterator[Outcome]:
    """What became of each seed, in order; none begins after `until_s`."""
    from jepsen_lite.sim.node_logs import configure

    configure(show=log)
    in_time = itertools.takewhile(lambda _: time.perf_counter() < until_s, seeds)
    if jobs == 1:
        with _replicas():
            for seed in in_time:
                yield outcome_of(seed)
        return
    with ProcessPoolExecutor(jobs, initializer=partial(configure, show=log)) as pool:
        under_way: deque[Future[Outcome]] = deque()
        try:
            for seed in in_time:
                under_way.append(pool.submit(outcome_of, seed))
                if len(under_way) > jobs:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for each in under_way:
                each.cancel()


def _plans(
    scenario: str | None, workload: str | None, seconds: float | None, rate: float | None
) -> Callable[[int], Plan]:
    """A function that returns the plan of a seed."""
    from jepsen_lite.sim.plan import PLAIN, SWARM
    from jepsen_lite.sim.scenarios import SCENARIOS
    from jepsen_lite.workloads.catalogue import WORKLOADS

    name = SWARM if scenario is None else scenario
    if name not in (SWARM, *SCENARIOS):
        raise typer.BadParameter(f"no such scenario: {name}; there are {', '.join(SCENARIOS)}")
    if name not in (SWARM, PLAIN) and seconds is not None:
        raise typer.BadParameter(f"{name} has a length of its own; leave --seconds out")
    workloads = () if workload is None else tuple(dict.fromkeys(workload.split(",")))
    unknown = [each for each in workloads if each not in WORKLOADS]
    if unknown:
        known = ", ".join(WORKLOADS)
        raise typer.BadParameter(f"no such workload: {', '.join(unknown)}; there are {known}")
    return partial(_plan, name, workloads, seconds, rate)


def _plan(
    scenario: str, workloads: tuple[str, ...], seconds: float | None, rate: float | None, seed: int
) -> Plan:
    from jepsen_lite.sim.swarm import draw

    return draw(scenario, seed, workloads, seconds, rate)


def _outcome(plan_of: Callable[[int], Plan], branches: Path | None, seed: int) -> Outcome:
    from jepsen_lite.sim.coverage.branches import recorded
    from jepsen_lite.sim.run import run

    with contextlib.nullcontext() if branches is None else recorded(branches):
        return run(plan_of(seed), _replicas())


@functools.cache
def _replicas() -> ReplicaPool:
    """Those of this process. Those of a worker end with it, because that closes their input."""
    from jepsen_lite.sim.replicas.pool import ReplicaPool

    return ReplicaPool()
